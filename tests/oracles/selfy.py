"""SELFY's self-similarity transform and its soft argmax, index by index."""

import numpy as np


def self_similarity(v, offsets, radius):
    """v: B T X Y C. S[b,t,x,y,l,u,v] is the dot product with the position at that displacement, 0 outside the clip."""
    clips, frames, height, width, _ = v.shape
    out = np.zeros((clips, frames, height, width, len(offsets), 2 * radius[0] + 1, 2 * radius[1] + 1))
    for b, t, x, y, index, i, j in np.ndindex(*out.shape):
        frame, row, column = t + offsets[index], x + i - radius[0], y + j - radius[1]
        if 0 <= frame < frames and 0 <= row < height and 0 <= column < width:
            out[b, t, x, y, index, i, j] = v[b, t, x, y] @ v[b, frame, row, column]
    return out


def soft_argmax(similarity, temperature):
    """similarity: U V of one position and offset. The expected displacement (rows, columns)."""
    rows, columns = similarity.shape
    weight = np.exp(similarity / temperature - np.max(similarity / temperature))
    weight /= weight.sum()
    displacement = np.zeros(2)
    for i, j in np.ndindex(rows, columns):
        displacement += weight[i, j] * np.array([i - rows // 2, j - columns // 2])
    return displacement
