"""The maps of a run laid over a video, and the tube around their peaks: a sheet, an animation, and files of boxes.

Legend: T frames, H and W pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.types import FailedSample
from muybridge.engine.checkpoint import RunFolder
from muybridge.localize import Localization, Localizer
from muybridge.media.tubes import write_tubes
from muybridge.media.video import Video
from muybridge.viz.clip import animate_clip, draw_clip_sheet, drawn_frames
from muybridge.viz.names import video_stem
from muybridge.viz.style import clean_text, writable

_SHORT_SIDE = 240  # pixels of the frames that are drawn


@dataclass(frozen=True, slots=True)
class DrawnFrames:
    """The frames of a video that are drawn, evenly spread over it.

    Attributes:
        numbers: of the frames.
        images: ``T H W 3``.
        seconds: when each is shown.
        length: frames of the video.
        size: height and width of the video in pixels.
        fps: of the animation.
        note: for the captions of the animation.
    """

    numbers: list[int]
    images: UInt8[np.ndarray, "T H W 3"]
    seconds: Float64[Tensor, " T"]
    length: int
    size: tuple[int, int]
    fps: float
    note: str

    @classmethod
    def of(cls, video: Video) -> "DrawnFrames":
        """Those of a video, decoded.

        Raises:
            DataError: one of them is damaged.
        """
        frames, fps, note = drawn_frames(len(video), video.fps)
        clip = video.read(frames, short_side=_SHORT_SIDE)
        images = rearrange(clip.pixels.expand(-1, 3, -1, -1), "t c h w -> t h w c").numpy()
        return cls(list(frames), images, clip.seconds, len(video), video.size, fps, note)


def write_localizations(
    localizer: Localizer, paths: Iterable[Path | FailedSample], folder: Path, animation: Literal["gif", "mp4"]
) -> Iterator[tuple[Path, Localization] | FailedSample]:
    """Localize in each video and leave ``NAME.json`` with the tubes, ``NAME.png`` and an animation in a folder.

    A video is named after its file; where another video has that name, in this call or in the folder from before,
    after its folders too, see :func:`video_stem`.

    Args:
        localizer: a run.
        paths: videos; samples that failed already are passed on.
        folder: where files are written; made where there is none.
        animation: its suffix.

    Yields:
        The file of boxes and its content, as soon as it is written; or why a video cannot be read.

    Raises:
        DataError: the file of boxes cannot be written.
        RunError: the model has no maps, or an image cannot be written.
    """
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if isinstance(path, FailedSample):
            yield path
            continue
        try:
            with localizer.predictor.open(path) as (recording, _):
                assert isinstance(recording, Video)
                result = localizer(recording)
                frames = DrawnFrames.of(recording)
        except DataError as problem:
            yield FailedSample(str(path), path, problem)
            continue
        stem = folder / video_stem(path, folder)
        boxes = stem.with_name(f"{stem.name}.json")
        write_tubes(boxes, result.renamed(str(path.absolute())).tube_set())
        draw_tubes({describe_run(localizer.run): result}, frames, stem, animation, path.name)
        yield boxes, result


def draw_tubes(
    results: Mapping[str, Localization],
    frames: DrawnFrames,
    stem: Path,
    animation: str,
    title: str,
    truth: Float[Tensor, "T 4"] | None = None,
) -> list[Path]:
    """Sheet and animation of a video with each run's maps, the best tube around their peaks, and the true boxes.

    Args:
        results: of each run, by its label.
        frames: the frames to draw.
        stem: path of the two files without their suffix.
        animation: suffix of the animation.
        title: of both.
        truth: boxes in pixels of the file, for every frame of the video.
    """
    sheet, moving = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{animation}")
    height, width = frames.size
    sides, numbers = np.array([width, height] * 2), torch.tensor(frames.numbers)
    true = None if truth is None else truth.numpy()[frames.numbers] / sides
    heats, boxes = {}, {}
    for name, result in results.items():
        label = clean_text(result.labels[result.label])
        text = f"{name}\n{label} ({100 * float(result.scores.max()):.0f} %)"
        heats[text] = result.maps[numbers].numpy()
        boxes[text] = result.tubes[0].boxes[frames.numbers] / sides
    seconds = [f"{second:.2f} s" for second in frames.seconds.tolist()]
    draw_clip_sheet(frames.images, heats, sheet, predicted=boxes, truth=true, captions=seconds, title=title)
    captions = [
        f"frame {number + 1} of {frames.length} · {second}{frames.note}"
        for number, second in zip(frames.numbers, seconds, strict=True)
    ]
    animate_clip(
        frames.images,
        {text.replace("\n", ": "): heat for text, heat in heats.items()},
        moving,
        fps=frames.fps,
        title=title,
        predicted={text.replace("\n", ": "): box for text, box in boxes.items()},
        truth=true,
        captions=captions,
    )
    return [sheet, moving]


def describe_runs(runs: Sequence[str | Path]) -> list[str]:
    """A different label for each run: its model, and where several are alike its folder or its number too."""
    labels = [describe_run(run) for run in runs]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({Path(run).resolve().name})" for label, run in zip(labels, runs, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{number}: {label}" for number, label in enumerate(labels, start=1)]
    return labels


def describe_run(run: str | Path) -> str:
    """What the attention of a run's model is computed from."""
    model = RunFolder.open(run).recipe().model
    match getattr(model, "architecture", ""):
        case "":
            return model.name
        case "video_lstm" | "motion_alstm" as architecture:
            return f"{architecture}, motion attention"
        case architecture:
            return f"{architecture}, {getattr(model, 'stream', 'appearance')} attention"
