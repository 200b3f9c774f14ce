"""The temporal shift and the temporal convolution, index by index."""

import numpy as np


def temporal_shift(x, shift_div=8):
    """x: B T C H W. The first C/shift_div channels are those of t+1, the next those of t-1, the rest are unchanged."""
    clips, frames, channels, _, _ = x.shape
    fold = channels // shift_div
    out = np.zeros_like(x)
    for b in range(clips):
        for t in range(frames):
            for c in range(channels):
                source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                if 0 <= source < frames:
                    out[b, t, c] = x[b, source, c]
    return out


def temporal_convolution(x, weight):
    """x: B T C H W, weight: C 3. out[t] = w0 x[t-1] + w1 x[t] + w2 x[t+1]."""
    out = np.zeros_like(x)
    frames = x.shape[1]
    for t in range(frames):
        for tap in range(3):
            if 0 <= t + tap - 1 < frames:
                out[:, t] += weight[:, tap, None, None] * x[:, t + tap - 1]
    return out
