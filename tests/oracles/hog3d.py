"""HOG3D of one window, pixel by pixel in NumPy; Kläser, Marszałek, Schmid, BMVC 2008, section 2."""

import math

import numpy as np

PHI = (1 + math.sqrt(5)) / 2


def icosahedron_faces() -> list[np.ndarray]:
    """The centers of its 20 faces, as the paper lists them (the corners of a dodecahedron)."""
    centers = [np.array([x, y, t], float) for x in (-1, 1) for y in (-1, 1) for t in (-1, 1)]
    for small in (-1 / PHI, 1 / PHI):
        for large in (-PHI, PHI):
            centers += [np.array([0, small, large]), np.array([small, large, 0]), np.array([large, 0, small])]
    return centers


def dodecahedron_faces() -> list[np.ndarray]:
    """The centers of its 12 faces (the corners of an icosahedron)."""
    centers = []
    for one in (-1.0, 1.0):
        for large in (-PHI, PHI):
            centers += [np.array([0, one, large]), np.array([one, large, 0]), np.array([large, 0, one])]
    return centers


def vote(gradient: np.ndarray, axes: list[np.ndarray], *, half: bool) -> np.ndarray:
    """A gradient's length divided among the axes; ``axes`` are unit vectors."""
    length = math.sqrt(sum(part**2 for part in gradient))
    votes = np.zeros(len(axes))
    if length < 1e-6:
        return votes
    angles = [[abs(a @ b) if half else a @ b for a in axes if a is not b] for b in axes]
    threshold = max(max(row) for row in angles)
    for index, axis in enumerate(axes):
        projection = axis @ gradient / length
        votes[index] = max(0.0, (abs(projection) if half else projection) - threshold)
    return length * votes / math.sqrt((votes**2).sum())


def gradient_at(brightness: np.ndarray, t: int, y: int, x: int, time_weight: float) -> np.ndarray:
    """Differences of the next and the previous pixel in x, y and t; in a row or column 0 at the border."""
    _, rows, columns = brightness.shape
    right = brightness[t, y, x + 1] - brightness[t, y, x - 1] if 0 < x < columns - 1 else 0.0
    down = brightness[t, y + 1, x] - brightness[t, y - 1, x] if 0 < y < rows - 1 else 0.0
    return np.array([right, down, time_weight * (brightness[t + 1, y, x] - brightness[t - 1, y, x])])


def descriptor(
    brightness: np.ndarray,
    start: int,
    part: tuple[int, int],
    axes: list[np.ndarray],
    *,
    half: bool,
    grid: int,
    cells: tuple[int, int, int],
    blocks: int,
    block_frames: int,
    time_weight: float,
    cutoff: float,
) -> np.ndarray:
    """The descriptor of the window that begins at frame ``start``, in row and column ``part`` of the grid.

    Args:
        brightness: T H W.
    """
    axes = [axis / math.sqrt(axis @ axis) for axis in axes]
    height, width = brightness.shape[1:]
    edges_y = [math.floor(k * height / (grid * cells[1] * blocks) + 0.5) for k in range(grid * cells[1] * blocks + 1)]
    edges_x = [math.floor(k * width / (grid * cells[2] * blocks) + 0.5) for k in range(grid * cells[2] * blocks + 1)]
    values: list[np.ndarray] = []
    for cell_t in range(cells[0]):
        for cell_y in range(cells[1]):
            for cell_x in range(cells[2]):
                histogram = np.zeros(len(axes))
                for t in range(blocks):
                    for y in range(blocks):
                        for x in range(blocks):
                            row = (part[0] * cells[1] + cell_y) * blocks + y
                            column = (part[1] * cells[2] + cell_x) * blocks + x
                            first = start + 1 + (cell_t * blocks + t) * block_frames
                            mean = np.mean(
                                [
                                    gradient_at(brightness, frame, j, i, time_weight)
                                    for frame in range(first, first + block_frames)
                                    for j in range(edges_y[row], edges_y[row + 1])
                                    for i in range(edges_x[column], edges_x[column + 1])
                                ],
                                axis=0,
                            )
                            histogram += vote(mean, axes, half=half)
                values.append(histogram)
    result = np.concatenate(values)
    result = np.minimum(result / max(math.sqrt((result**2).sum()), 1e-6), cutoff)
    return result / max(math.sqrt((result**2).sum()), 1e-6)
