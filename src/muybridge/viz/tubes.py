"""Where a run looked in a video, and the tube around that: a sheet, a film, and files of boxes.

Legend: T frames.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.engine.checkpoint import RunFolder
from muybridge.localize import Localization, Localizer
from muybridge.media.tubes import write_tubes
from muybridge.media.video import Video
from muybridge.viz.clip import animate_clip, draw_clip_sheet

LONGEST = 300
"""Frames of a video that are drawn; of longer ones every second, third, ..."""


def write_localizations(
    localizer: Localizer, paths: Iterable[Path], folder: Path, film: Literal["gif", "mp4"]
) -> Iterator[tuple[Path, Localization]]:
    """Localise in each video and leave ``NAME.json`` with the tubes, ``NAME.png`` and a film in a folder.

    Videos of equal names are told apart by the name of their folder.

    Args:
        localizer: a run.
        paths: videos.
        folder: where files go.
        film: its ending.

    Yields:
        The file of boxes, and what was found.

    Raises:
        DataError: a video cannot be read, or a file not be written.
        RunError: the model does not say where it looks.
    """
    taken: set[str] = set()
    for path in paths:
        name = path.stem if path.stem not in taken else f"{path.resolve().parent.name}-{path.stem}"
        taken.add(name)
        recording = localizer.predictor.read(path)
        assert isinstance(recording, Video)
        with recording:
            found = localizer(recording)
            write_tubes(folder / f"{name}.json", found.tube_set())
            draw_tubes({describe_run(localizer.run): found}, recording, folder / name, film, str(path.name))
        yield folder / f"{name}.json", found


def draw_tubes(
    located: Mapping[str, Localization],
    recording: Video,
    stem: Path,
    film: str,
    title: str,
    truth: Float[Tensor, "T 4"] | None = None,
) -> list[Path]:
    """Sheet and film of a whole video with what each run looks at, the best tube around that, and the true boxes.

    Args:
        located: what was found, by the words that stand beside it.
        recording: the video; stays open.
        stem: of the two files.
        film: ending of the film.
        title: of both.
        truth: boxes in pixels of the file.
    """
    every = np.arange(0, len(recording), -(-len(recording) // LONGEST))
    pixels = recording.read(every.tolist(), short_side=240).pixels.expand(-1, 3, -1, -1)
    frames = rearrange(pixels, "t c h w -> t h w c").numpy() / 255
    height, width = recording.size
    sides = np.array([width, height, width, height])
    true = None if truth is None else truth.numpy()[every] / sides

    def draw(between: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Heat and boxes by their words, with this between them."""
        words = {f"{name}{between}{one.labels[one.label]} {one.scores.max():.0%}": one for name, one in located.items()}
        heats = {key: one.maps[every].numpy() for key, one in words.items()}
        return heats, {key: one.tubes[0].boxes[every] / sides for key, one in words.items()}

    sheet, moving = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{film}")
    captions = [f"{recording.seconds[number]:.2f} s" for number in every.tolist()]
    heats, found = draw("\n")
    draw_clip_sheet(frames, heats, sheet, found=found, truth=true, captions=captions, title=title)
    heats, found = draw(": ")
    pace = recording.fps * len(every) / len(recording)
    animate_clip(frames, heats, moving, fps=pace, title=title, found=found, truth=true)
    return [sheet, moving]


def describe_run(run: str | Path) -> str:
    """What leads the looks of a run."""
    model = RunFolder.open(run).recipe().model
    match getattr(model, "architecture", ""):
        case "":
            return model.name
        case "video_lstm" | "motion_alstm" as architecture:
            return f"{architecture}, led\nby motion"
        case architecture:
            return f"{architecture}, led\nby {getattr(model, 'stream', 'appearance')}"
