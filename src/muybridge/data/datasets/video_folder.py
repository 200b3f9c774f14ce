"""The user's own videos: a folder for each class."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat

from muybridge.core.contracts import ClipData
from muybridge.core.types import Record
from muybridge.data.datasets.base import LabelPairs, parse_swap_pairs
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.media.video import SUFFIXES, Video, videos_in


class VideoFolder(ClassFolder):
    """Videos ``class/name.mp4`` (or deeper), each a file or a folder of numbered pictures.

    Attributes:
        channels: 3 for colour, 1 for brightness (depth, infrared, X-ray).
        fps: of folders of pictures, which keep no clock.
        reverse_labels: pairs of classes that are each other played backwards, by name or number; [] where every class
            looks the same backwards. Unless this is given, videos are not played backwards.
    """

    recordings: ClassVar[str] = f"videos that end in {', '.join(SUFFIXES)}, or folders of numbered pictures"
    content_settings: ClassVar[tuple[str, ...]] = ("channels", "fps")
    name: Literal["video_folder"] = "video_folder"
    channels: Literal[1, 3] = 3
    fps: PositiveFloat = 30.0
    reverse_labels: LabelPairs | None = None

    def resolved(self) -> Self:
        """With an absolute root, and classes written out."""
        return self.model_copy(update={"root": self.root.resolve(), "classes": self.labels()})

    def holds(self) -> ClipData:
        """Videos of the channels that are given."""
        return ClipData(self.channels)

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, channels=self.channels, fps=self.fps)

    def reverse(self) -> Mapping[int, int] | None:
        """As ``reverse_labels`` says; forbidden where it says nothing."""
        return parse_swap_pairs(self.reverse_labels, self.labels(), "reverse_labels", self.root)

    def search(self, folder: Path) -> list[Path]:
        """See :func:`videos_in`; pictures in the class folder itself are no video."""
        return [path for path in videos_in(folder) if path != folder]
