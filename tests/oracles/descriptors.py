"""HOG, HOF and MBH of one block, pixel by pixel in NumPy; Wang et al., IJCV 2013, section 3."""

import math

import numpy as np


def shared(right: float, down: float, still: float) -> np.ndarray:
    """A vector's length between the two directions beside it; with ``still``, short ones in a bin of their own."""
    bins = np.zeros(9 if still else 8)
    length = math.hypot(right, down)
    if length <= still:
        if still:
            bins[8] = still
        return bins
    turn = (math.atan2(down, right) % math.tau) / math.tau * 8
    low = math.floor(turn)
    bins[low % 8] += length * (1 - (turn - low))
    bins[(low + 1) % 8] += length * (turn - low)
    return bins


def neighbours(image: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """Differences to the right and downwards, none across the border."""
    rows, columns = image.shape
    right = image[y, x + 1] - image[y, x - 1] if 0 < x < columns - 1 else 0.0
    down = image[y + 1, x] - image[y - 1, x] if 0 < y < rows - 1 else 0.0
    return float(right), float(down)


def block(
    brightness: np.ndarray, flow: np.ndarray, start: tuple[int, int, int], cell: tuple[int, int, int], still: float
) -> list[np.ndarray]:
    """The four descriptors of the block that begins at frame, row and column ``start``.

    Args:
        brightness: T H W.
        flow: T 2 H W.
    """
    found: list[list[np.ndarray]] = [[], [], [], []]
    for dt in range(3):
        for dy in range(2):
            for dx in range(2):
                sums = [np.zeros(8), np.zeros(9), np.zeros(8), np.zeros(8)]
                for t in range(start[0] + dt * cell[0], start[0] + (dt + 1) * cell[0]):
                    for y in range(start[1] + dy * cell[1], start[1] + (dy + 1) * cell[1]):
                        for x in range(start[2] + dx * cell[2], start[2] + (dx + 1) * cell[2]):
                            sums[0] += shared(*neighbours(brightness[t], y, x), 0.0)
                            sums[1] += shared(flow[t, 0, y, x], flow[t, 1, y, x], still)
                            sums[2] += shared(*neighbours(flow[t, 0], y, x), 0.0)
                            sums[3] += shared(*neighbours(flow[t, 1], y, x), 0.0)
                for kind, one in zip(found, sums, strict=True):
                    kind.append(one / math.prod(cell))
    joined = [np.concatenate(kind) for kind in found]
    return [np.sqrt(one / (one.sum() + 1e-4)) for one in joined]
