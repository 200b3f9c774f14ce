"""The user's own videos: a folder for each class."""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, model_validator

from muybridge.core.contracts import ClipData
from muybridge.core.files import FoundFiles
from muybridge.core.types import Record
from muybridge.data.datasets.base import LabelPairs, parse_swap_pairs
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.media.container import IMAGE_SUFFIXES
from muybridge.media.video import SUFFIXES, Video, find_videos


class VideoFolder(ClassFolder):
    """Videos ``class/name.mp4``, or deeper, or in folders train and test; each a file or a folder of numbered images.

    Attributes:
        channels: 3 for RGB, 1 for brightness (depth, infrared, X-ray).
        fps: frame rate of folders of images, which have no time stamps.
        reverse_labels: pairs of classes that are each other reversed in time, by name or number; [] if reversing
            changes no class. Unless this is given, videos are not reversed.
    """

    recordings: ClassVar[str] = "videos (.mp4, .avi, .mkv, .mov, .webm, .gif and others), or folders of numbered images"
    suffixes: ClassVar[Collection[str]] = SUFFIXES
    content_settings: ClassVar[tuple[str, ...]] = ("channels", "fps")
    name: Literal["video_folder"] = "video_folder"
    channels: Literal[1, 3] = 3
    fps: PositiveFloat = 30.0
    reverse_labels: LabelPairs | None = None

    @model_validator(mode="after")
    def _reversal_of_one_label(self) -> Self:
        if self.label_separator and self.reverse_labels:
            raise ValueError(
                "reverse_labels swaps one label for another, and with label_separator there may be several"
            )
        return self

    def holds(self) -> ClipData:
        """Videos of the channels that are given."""
        return ClipData(self.channels)

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, channels=self.channels, fps=self.fps, span=record.span)

    def seconds_of(self, path: Path) -> float:
        """Until when the last frame is shown."""
        return _seconds_of(path, self.fps, *_state(path))

    def reverse(self) -> Mapping[int, int] | None:
        """As ``reverse_labels`` says; forbidden if it is not given."""
        return parse_swap_pairs(self.reverse_labels, self.labels(), "reverse_labels", self.root)

    def search(self, folder: Path) -> FoundFiles:
        """See :func:`find_videos`; images directly in the class folder are no video."""
        search = find_videos(folder)
        if folder not in search.files:
            return search
        images = Counter(path.suffix.lower() for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        return FoundFiles(tuple(path for path in search.files if path != folder), search.unread + images)


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1_000_000)
def _seconds_of(path: Path, fps: float, changed: int, size: int) -> float:
    del changed, size
    with Video(path, fps=fps) as video:
        return float(video.seconds[0]) + video.duration
