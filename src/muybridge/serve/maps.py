"""Where a model looks, over a whole recording: a coarse map for moments of it, and boxes where the model has attention.

Legend: N moments, h and w cells of a map.
"""

import base64
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from muybridge.core.errors import MuybridgeWarning, RequestError, RunError
from muybridge.localize import Localizer, attention_to_tubes
from muybridge.media.video import Video
from muybridge.predict import Predictor
from muybridge.timeline.windows import cut_video, slide

MOST_CELLS, MOST_MAPS, MAPS_PER_SECOND = 24, 3000, 10.0
"""Cells along the longer side of a map, maps of a recording, and maps of a second, that are sent."""


@dataclass(frozen=True, slots=True)
class FoundMaps:
    """What the model attended to.

    Attributes:
        kind: "attention" or "class_activation".
        seconds: of each map.
        rows, columns: cells of a map, which cover the whole frame.
        maps: ``N h w`` bytes, the maps one after the other in base64; 255 is the highest in a window of time.
        boxes: the box of each map as shares of width and height (left, top, right, bottom); none where the model has
            class activation alone.
    """

    kind: str
    seconds: list[float]
    rows: int
    columns: int
    maps: str
    boxes: list[tuple[float, float, float, float]]


def find_maps(
    predictor: Predictor, video: Video, window: float, progress: Callable[[int, int], None] | None = None
) -> FoundMaps:
    """The maps of a video, window after window, for the class that is predicted in each.

    Raises:
        RequestError: the model has no maps.
    """
    try:
        localizer = Localizer(predictor)
        times = video.seconds.numpy() - float(video.seconds[0])
        windows = slide(times, video.duration, window, window)
        rate = min(MAPS_PER_SECOND, video.fps, MOST_MAPS / video.duration)
        height, width = video.size
        rows, columns = (max(1, round(MOST_CELLS * side / max(height, width))) for side in (height, width))
        seconds: list[float] = []
        parts: list[np.ndarray] = []
        boxes: list[tuple[float, float, float, float]] = []
        for done, (place, part) in enumerate(zip(windows, cut_video(video, windows), strict=True), start=1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MuybridgeWarning)  # that maps are coarse is visible
                scores, maps = localizer.attention_maps(part)
            numbers = np.unique(np.linspace(0, len(part) - 1, max(1, round(rate * part.duration))).astype(int))
            heat = F.adaptive_avg_pool2d(maps[torch.from_numpy(numbers)][:, None], (rows, columns))[:, 0]
            parts.append((255 * heat / heat.max().clamp(min=1e-12)).round().byte().numpy())
            seconds += times[place.first + numbers].round(3).tolist()
            if localizer.kind == "attention":
                best = int(scores.argmax())
                tube = attention_to_tubes(maps, part.size, label=best, score=float(scores[best]))[0]
                shares = (tube.boxes[numbers] / ([width, height] * 2)).clip(0, 1).round(4)
                boxes += [(box[0], box[1], box[2], box[3]) for box in shares.tolist()]
            if progress:
                progress(done, len(windows))
    except RunError as problem:
        raise RequestError(
            problem.problem, expected=problem.expected, hint="choose another model", status=422
        ) from problem
    order = np.argsort(seconds, kind="stable")  # the last window ends with the recording, and overlaps with another
    content = np.concatenate(parts)[order].tobytes()
    return FoundMaps(
        localizer.kind,
        [seconds[at] for at in order],
        rows,
        columns,
        base64.b64encode(content).decode("ascii"),
        [boxes[at] for at in order] if boxes else [],
    )
