"""A film with its timeline burnt in: what happens now, who does it, and where in the recording that is."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from muybridge.core.files import atomic_write
from muybridge.media.encode import encode
from muybridge.media.poses.tracks import read_tracks
from muybridge.media.video import Video
from muybridge.timeline import Segment, Timeline
from muybridge.viz.style import COLORS, SOFT, clean_text, new_figure, shorten, styled, writable

_SMALLEST, _LARGEST = 360, 1080  # pixels of the shorter side of the film
_CHUNK = 16  # frames that are read at a time
_DPI = 100

BoxAt = Callable[[str, int], tuple[float, float, float, float] | None]
"""From a person and the number of a frame to their box in pixels of the recording; None where they are not seen."""


def film_timelines(timelines: Sequence[Timeline], path: Path, box_at: BoxAt | None = None) -> Path:
    """Write the recording of timelines as mp4 (H.264, without sound) with what happens written into each frame.

    At the bottom the recording runs as a strip for each person, in which segments have the color of their class. Above
    it stand the actions of the moment with their scores, or at the box of each person where ``box_at`` is given.

    Args:
        timelines: of one video; one, or one for each person.
        path: of the film, which appears whole.
        box_at: where people are.

    Raises:
        DataError: the recording is no video, or a frame is damaged.
        RunError: the film cannot be written.
    """
    recording = Path(timelines[0].path)
    with Video(recording) as video, writable(path), atomic_write(path, shared=True) as draft:
        encode(_frames(timelines, video, box_at), draft, video.fps)
    return path


def _frames(
    timelines: Sequence[Timeline], video: Video, box_at: BoxAt | None
) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], float]]:
    height, width = video.size
    scale = min(max(_SMALLEST / min(height, width), 1.0), 4.0) * min(1.0, _LARGEST / min(height, width))
    size = (round(width * scale) // 2 * 2, round(height * scale) // 2 * 2)
    page = _Page(timelines, video, size)
    start = float(video.seconds[0])
    for begin in range(0, len(video), _CHUNK):
        clip = video.read(range(begin, min(begin + _CHUNK, len(video))))
        images = clip.pixels.permute(0, 2, 3, 1).numpy()
        for number, (pixels, seconds) in enumerate(zip(images, clip.seconds.tolist(), strict=True), start=begin):
            image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR)
            page.draw(image, seconds - start, number, box_at)
            yield np.asarray(image), seconds


class _Page:
    """What is drawn over each frame of a film.

    Args:
        timelines: of one recording.
        video: the recording.
        size: width and height of the film.
    """

    def __init__(self, timelines: Sequence[Timeline], video: Video, size: tuple[int, int]) -> None:
        self.timelines, self.size = timelines, size
        self.duration = video.duration
        self.scale = size[0] / video.size[1]
        self.line = max(14, round(0.045 * size[1]))  # height of a line of text
        seconds: dict[str, float] = {}
        for timeline in timelines:
            for segment in timeline.segments:
                seconds[segment.label] = seconds.get(segment.label, 0.0) + segment.end - segment.start
        ranked = sorted(seconds, key=seconds.__getitem__, reverse=True)
        self.colors = {label: COLORS[n] if n < len(COLORS) else SOFT for n, label in enumerate(ranked)}
        self.strip = self._draw_strip()
        self._labels: dict[tuple[str, Segment], Image.Image] = {}

    def _draw_strip(self) -> Image.Image:
        """A row for each timeline: dark, with segments in the colors of their classes."""
        row = max(4, round(0.018 * self.size[1]))
        strip = np.full((row * len(self.timelines), self.size[0], 3), 40, dtype=np.uint8)
        for number, timeline in enumerate(self.timelines):
            for segment in timeline.segments:
                left, right = (self._column(time) for time in (segment.start, segment.end))
                color = [round(255 * part) for part in to_rgb(self.colors[segment.label])]
                strip[number * row + 1 : (number + 1) * row - 1, left : max(right, left + 1)] = color
        return Image.fromarray(strip)

    def _column(self, seconds: float) -> int:
        return min(max(round(self.size[0] * seconds / self.duration), 0), self.size[0] - 1)

    def draw(self, image: Image.Image, seconds: float, number: int, box_at: BoxAt | None) -> None:
        """Draw over a frame, in place."""
        below = image.height - self.strip.height
        image.paste(self.strip, (0, below))
        cursor = self._column(seconds)
        image.paste((255, 255, 255), (max(cursor - 1, 0), below - 2, cursor + 1, image.height))
        bottom = below - 4
        for timeline in self.timelines:
            now = [one for one in timeline.segments if one.start <= seconds < one.end]
            box = box_at(timeline.person, number) if box_at else None
            if box_at and box is None:
                continue
            if box is not None:
                self._draw_person(image, timeline, box, now)
                continue
            for segment in now:
                label = self._label(timeline, segment)
                bottom -= label.height + 2
                image.paste(label, (6, bottom), label)

    def _draw_person(
        self, image: Image.Image, timeline: Timeline, box: tuple[float, float, float, float], now: list[Segment]
    ) -> None:
        """The box of a person, and above it what they do; who does nothing that is known has a gray box."""
        left, top, right, bottom = (round(self.scale * edge) for edge in box)
        left, top = min(max(left, 0), image.width - 3), min(max(top, 0), image.height - 3)
        right, bottom = min(max(right, left + 3), image.width), min(max(bottom, top + 3), image.height)
        color = self.colors[now[0].label] if now else SOFT
        thick = max(2, image.height // 270)
        for edge in ((left, top, right, top + thick), (left, bottom - thick, right, bottom)):
            image.paste(color, edge)
        for edge in ((left, top, left + thick, bottom), (right - thick, top, right, bottom)):
            image.paste(color, edge)
        label = self._label(timeline, now[0]) if now else _text(f"person {timeline.person}", SOFT, self.line)
        label = label.crop((0, 0, min(label.width, image.width), label.height))
        image.paste(label, (min(left, image.width - label.width), max(top - label.height, 0)), label)

    def _label(self, timeline: Timeline, segment: Segment) -> Image.Image:
        """What somebody does, drawn once."""
        key = timeline.person, segment
        if key not in self._labels:
            self._labels[key] = self._draw_label(timeline, segment)
        return self._labels[key]

    def _draw_label(self, timeline: Timeline, segment: Segment) -> Image.Image:
        who = f"{timeline.person}: " if timeline.person else ""
        text = f"{who}{shorten(clean_text(segment.label), 40)}  {segment.score:.0%}"
        label = _text(text, self.colors[segment.label], self.line)
        if label.width > self.size[0] - 12:
            factor = (self.size[0] - 12) / label.width
            return label.resize((self.size[0] - 12, max(1, round(factor * label.height))), Image.Resampling.BILINEAR)
        return label


@cache
def _text(text: str, color: str, height: int) -> Image.Image:
    """A line of white text on a plate of a color, RGBA."""
    with styled():
        figure = new_figure(20.0, 2 * height / _DPI, dpi=_DPI)
        figure.patch.set_facecolor(color)
        drawn = figure.text(0, 0.5, text, color="white", size=0.62 * height * 72 / _DPI, va="center", weight="bold")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba()).copy()
        width = round(drawn.get_window_extent().width) + height // 2
    plate = Image.new("RGBA", (width, height), Image.fromarray(pixels).getpixel((pixels.shape[1] - 1, 0)))  # type: ignore[arg-type]
    plate.paste(
        Image.fromarray(pixels).crop((0, height // 2, width - height // 2, height // 2 + height)), (height // 4, 0)
    )
    plate.putalpha(225)
    return plate


def boxes_of(recording: str, people: Path) -> BoxAt:
    """The boxes of the people in a file, as the timelines of a recording were made from it.

    Raises:
        DataError: one of the files cannot be read.
    """
    with Video(recording) as video:
        height, width = video.size
    boxes = {
        track.name: dict(zip(track.frames.tolist(), track.boxes.tolist(), strict=True))
        for track in read_tracks(people, size=(width, height))
    }

    def box_at(person: str, frame: int) -> tuple[float, float, float, float] | None:
        box = boxes[person].get(frame)
        return None if box is None else (box[0], box[1], box[2], box[3])

    return box_at
