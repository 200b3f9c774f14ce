"""TDN's two difference modules, index by index, in the evaluation mode of their normalizations."""

import numpy as np


def convolution(x, weight, stride=1, padding=0):
    """x: C H W, weight: D C h w."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    outputs, _, kh, kw = weight.shape
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    out = np.zeros((outputs, height, width))
    for d, i, j in np.ndindex(outputs, height, width):
        out[d, i, j] = np.sum(weight[d] * x[:, i * stride : i * stride + kh, j * stride : j * stride + kw])
    return out


def normalize(x, norm):
    """x: C H W, norm: (scale, bias, mean, variance)."""
    scale, bias, mean, variance = (value[:, None, None] for value in norm)
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + bias


def pool(x, size, stride, kind, padding=0):
    """x: C H W; padding is zeros (mean) or minus infinity (max)."""
    edge = -np.inf if kind is np.max else 0.0
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)), constant_values=edge)
    height, width = (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
    out = np.zeros((len(x), height, width))
    for c, i, j in np.ndindex(*out.shape):
        out[c, i, j] = kind(x[c, i * stride : i * stride + size, j * stride : j * stride + size])
    return out


def nearest(x, height, width):
    """x: C h w, enlarged by repeating the nearest pixel."""
    out = np.zeros((len(x), height, width))
    for i, j in np.ndindex(height, width):
        out[:, i, j] = x[:, i * x.shape[1] // height, j * x.shape[2] // width]
    return out


def short_term(frames, image, weights, image_weight):
    """The motion stem of one segment, fused with the image path.

    frames: F C H W; image: D H/4 W/4 of the image path; weights: kernel and norm of the motion stem.
    """
    kernel, norm = weights
    differences = np.concatenate([frames[f + 1] - frames[f] for f in range(len(frames) - 1)])
    half = pool(differences, 2, 2, np.mean)
    motion = np.maximum(normalize(convolution(half, kernel, stride=2, padding=3), norm), 0)
    motion = pool(motion, 3, 2, np.max, padding=1)
    return image_weight * image + (1 - image_weight) * nearest(motion, *image.shape[1:])


def long_term(x, weights):
    """x: T P h w of one clip; weights: dict of kernels and norms by name."""
    squeezed = [normalize(convolution(frame, weights["squeeze"]), weights["squeeze_norm"]) for frame in x]
    aligned = []
    for z in squeezed:  # each channel separately
        channels = [convolution(z[c : c + 1], weights["align"][c : c + 1], padding=1) for c in range(len(z))]
        aligned.append(np.concatenate(channels))

    def gate(t, neighbor):
        s = aligned[neighbor] - squeezed[t] if 0 <= neighbor < len(x) else np.zeros_like(squeezed[t])
        fine = normalize(convolution(s, weights["fine"], padding=1), weights["fine_norm"])
        small = pool(s, 2, 2, np.mean)
        coarse = normalize(convolution(small, weights["coarse"], padding=1), weights["coarse_norm"])
        scales = (s + fine + nearest(coarse, *s.shape[1:])) / 3
        y = normalize(convolution(scales, weights["expand"]), weights["expand_norm"])
        return 1 / (1 + np.exp(-y)) - 0.5

    return np.stack([x[t] + x[t] * (0.5 * gate(t, t + 1) + 0.5 * gate(t, t - 1)) for t in range(len(x))])
