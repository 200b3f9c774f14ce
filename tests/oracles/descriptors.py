"""HOG, HOF and MBH of one block, pixel by pixel in NumPy; Wang et al., IJCV 2013, section 3."""

import math

import numpy as np


def orientation_bins(right: float, down: float, min_length: float) -> np.ndarray:
    """The length of a vector, divided between the two nearest directions; shorter ones in one more bin."""
    bins = np.zeros(9 if min_length else 8)
    length = math.hypot(right, down)
    if length <= min_length:
        if min_length:
            bins[8] = min_length
        return bins
    angle = (math.atan2(down, right) % math.tau) / math.tau * 8
    low = math.floor(angle)
    bins[low % 8] += length * (1 - (angle - low))
    bins[(low + 1) % 8] += length * (angle - low)
    return bins


def differences(image: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """Central differences to the right and downwards, 0 at the border."""
    rows, columns = image.shape
    right = image[y, x + 1] - image[y, x - 1] if 0 < x < columns - 1 else 0.0
    down = image[y + 1, x] - image[y - 1, x] if 0 < y < rows - 1 else 0.0
    return float(right), float(down)


def block(
    brightness: np.ndarray, flow: np.ndarray, start: tuple[int, int, int], cell: tuple[int, int, int], min_length: float
) -> list[np.ndarray]:
    """The four descriptors of the block that begins at frame, row and column ``start``.

    Args:
        brightness: T H W.
        flow: T 2 H W.
    """
    histograms: list[list[np.ndarray]] = [[], [], [], []]
    for dt in range(3):
        for dy in range(2):
            for dx in range(2):
                sums = [np.zeros(8), np.zeros(9), np.zeros(8), np.zeros(8)]
                for t in range(start[0] + dt * cell[0], start[0] + (dt + 1) * cell[0]):
                    for y in range(start[1] + dy * cell[1], start[1] + (dy + 1) * cell[1]):
                        for x in range(start[2] + dx * cell[2], start[2] + (dx + 1) * cell[2]):
                            sums[0] += orientation_bins(*differences(brightness[t], y, x), 0.0)
                            sums[1] += orientation_bins(flow[t, 0, y, x], flow[t, 1, y, x], min_length)
                            sums[2] += orientation_bins(*differences(flow[t, 0], y, x), 0.0)
                            sums[3] += orientation_bins(*differences(flow[t, 1], y, x), 0.0)
                for kind, values in zip(histograms, sums, strict=True):
                    kind.append(values / math.prod(cell))
    descriptors = [np.concatenate(kind) for kind in histograms]
    return [np.sqrt(values / (values.sum() + 1e-4)) for values in descriptors]
