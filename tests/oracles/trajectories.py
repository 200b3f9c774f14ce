"""Dense trajectories of one clip, point by point in NumPy; Wang et al., IJCV 2013, sections 2 and 3."""

import math

import numpy as np

from muybridge.nn.trajectory_config import TrajectoryConfig
from tests.oracles.descriptors import differences, orientation_bins


def smallest_eigenvalue(image: np.ndarray, y: int, x: int) -> float:
    """Of the products of Sobel gradients, summed over 3 by 3 pixels; the border's pixels go on outside."""
    rows, columns = image.shape
    weights = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))

    def at(row: int, column: int) -> float:
        return float(image[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)])

    def gradient(row: int, column: int) -> tuple[float, float]:
        row, column = min(max(row, 0), rows - 1), min(max(column, 0), columns - 1)
        right = sum(weights[i][j] * at(row + i - 1, column + j - 1) for i in range(3) for j in range(3))
        down = sum(weights[j][i] * at(row + i - 1, column + j - 1) for i in range(3) for j in range(3))
        return right, down

    structure = np.zeros((2, 2))
    for row in range(y - 1, y + 2):
        for column in range(x - 1, x + 2):
            vector = np.array(gradient(row, column))
            structure += np.outer(vector, vector)
    return float(np.linalg.eigvalsh(structure)[0])


def trajectories(
    frames: np.ndarray, flow: np.ndarray, free: np.ndarray, config: TrajectoryConfig, camera: bool
) -> list:
    """Each trajectory of one clip in one size of its frames: its last frame, its points, and its five descriptors.

    Args:
        frames: T H W.
        flow: T 2 H W in pixels; the last is not used.
        free: the flow without the camera's part.
    """
    _, rows, columns = frames.shape
    tracks: list[list[tuple[float, float]]] = []
    found = []
    for time in range(len(frames) - 1):
        _start(tracks, frames[time], config)
        going = []
        for track in tracks:
            x, y = track[-1]
            column, row = round(x), round(y)
            nearby = [
                flow[time, :, min(max(row + i, 0), rows - 1), min(max(column + j, 0), columns - 1)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            x, y = (at + step for at, step in zip(track[-1], np.median(nearby, axis=0), strict=True))
            if not (0 <= round(x) < columns and 0 <= round(y) < rows):
                continue
            track.append((float(x), float(y)))
            if len(track) <= config.steps:
                going.append(track)
                continue
            steps = np.array(
                [
                    free[time - config.steps + 1 + step, :, round(track[step][1]), round(track[step][0])]
                    for step in range(config.steps)
                ]
            )
            if _is_good(np.array(track), steps, config, camera):
                first = time - config.steps + 1
                found.append((time + 1, np.array(track), _describe(frames, free, track, steps, first, config)))
        tracks[:] = going
    return found


def _start(tracks: list, frame: np.ndarray, config: TrajectoryConfig) -> None:
    """A new point at the middle of each square of the grid that has structure and no point."""
    rows, columns = frame.shape
    largest = max(smallest_eigenvalue(frame, y, x) for y in range(rows) for x in range(columns))
    taken = {(round(track[-1][1]) // config.stride, round(track[-1][0]) // config.stride) for track in tracks}
    for row in range(rows // config.stride):
        for column in range(columns // config.stride):
            y, x = (each * config.stride + config.stride // 2 for each in (row, column))
            if (row, column) not in taken and smallest_eigenvalue(frame, y, x) > config.quality * largest:
                tracks.append([(float(x), float(y))])


def _is_good(points: np.ndarray, steps: np.ndarray, config: TrajectoryConfig, camera: bool) -> bool:
    deviation = points.std(0)
    if deviation.max() < config.min_deviation or deviation.max() > config.max_deviation:
        return False
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if lengths.max() > config.max_step and lengths.max() > 0.7 * lengths.sum():
        return False
    return not camera or np.linalg.norm(steps, axis=1).max() > config.min_own_step


def _describe(
    frames: np.ndarray, free: np.ndarray, track: list, steps: np.ndarray, first: int, config: TrajectoryConfig
) -> list[np.ndarray]:
    """The shape, and the histograms of the patch around the point, which stays in the frame."""
    _, rows, columns = frames.shape
    cell = config.cell_size
    sums = [np.zeros((3, 2, 2, bins)) for bins in (8, 9, 8, 8)]
    for step in range(config.steps):
        image, right, down = frames[first + step], free[first + step, 0], free[first + step, 1]
        left = min(max(round(track[step][0]) - cell, 0), columns - 2 * cell)
        top = min(max(round(track[step][1]) - cell, 0), rows - 2 * cell)
        for y in range(top, top + 2 * cell):
            for x in range(left, left + 2 * cell):
                place = step * 3 // config.steps, (y - top) // cell, (x - left) // cell
                sums[0][place] += orientation_bins(*differences(image, y, x), 0.0)
                sums[1][place] += orientation_bins(right[y, x], down[y, x], config.min_flow)
                sums[2][place] += orientation_bins(*differences(right, y, x), 0.0)
                sums[3][place] += orientation_bins(*differences(down, y, x), 0.0)
    histograms = [np.sqrt(values.ravel() / (values.sum() + 1e-4)) for values in sums]
    length = max(sum(math.hypot(*step) for step in steps), 1e-6)
    return [(steps / length).ravel(), *histograms]
