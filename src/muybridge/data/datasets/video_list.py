"""Videos named by list files, as most benchmarks hand out their splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, PositiveInt

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError
from muybridge.core.files import read_lines
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Index, LabelPairs, Split, parse_swap_pairs, resolve_data_path
from muybridge.media.video import Video


class VideoList(DatasetConfig):
    """Text files with a line ``path label`` or ``path frames label`` for each video, a file or a folder of frames.

    Labels count from 0. Paths, which may contain spaces, are relative to ``root``. The number of frames is not looked
    at: videos are counted, not believed. Empty lines and lines that begin with ``#`` are passed over.

    Attributes:
        root: the folder that the lists' paths and the names of the lists are relative to. One that is relative itself
            and does not exist here is looked for under the environment variable MUYBRIDGE_DATA.
        train, test: the lists; where a benchmark keeps the labels of its test to itself, its validation list tests.
        val: a list for choosing settings; empty, there is none.
        classes: names in label order, or a file with one on each line, or how many there are.
        mirror_labels: pairs of classes that are each other's mirror image, by name or number; [] where no class has a
            side. Unless this is given, videos are not mirrored.
        reverse_labels: pairs of classes that are each other played backwards, by name or number; [] where every class
            looks the same backwards. Unless this is given, videos are not played backwards.
        channels: 3 for colour, 1 for brightness.
        fps: of folders of frames, which keep no clock.
        prefix: of the frames' names, where a folder holds several series.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("channels", "fps", "prefix")
    name: Literal["video_list"] = "video_list"
    root: Path
    train: Path = Path("train.txt")
    test: Path = Path("test.txt")
    val: Path | None = None
    classes: PositiveInt | tuple[str, ...] | Path
    mirror_labels: LabelPairs | None = None
    reverse_labels: LabelPairs | None = None
    channels: Literal[1, 3] = 3
    fps: PositiveFloat = 30.0
    prefix: str | None = None

    def resolved(self) -> Self:
        """With an absolute root, and class names written out."""
        return self.model_copy(update={"root": self.folder().resolve(), "classes": self.labels()})

    def labels(self) -> tuple[str, ...]:
        """Class names; ``class 0`` and so on where only their number is known.

        Raises:
            DataError: the file of class names cannot be read.
        """
        if isinstance(self.classes, int):
            return tuple(f"class {label}" for label in range(self.classes))
        if isinstance(self.classes, Path):
            return tuple(self._lines(self.classes, "a file with a class name on each line", "data.classes"))
        return self.classes

    def holds(self) -> ClipData:
        """Videos of the channels that are given."""
        return ClipData(self.channels)

    def mirror(self) -> Mapping[int, int] | None:
        """As ``mirror_labels`` says; forbidden where it says nothing."""
        return parse_swap_pairs(self.mirror_labels, self.labels(), "mirror_labels", self.folder())

    def reverse(self) -> Mapping[int, int] | None:
        """As ``reverse_labels`` says; forbidden where it says nothing."""
        return parse_swap_pairs(self.reverse_labels, self.labels(), "reverse_labels", self.folder())

    def index(self, split: Split) -> Index:
        """The videos of one list.

        Raises:
            DataError: a list cannot be read, a line of it is neither form or has an unknown label, or a video is named
                twice.
        """
        lists = {"train": self.train, "val": self.val, "test": self.test}
        parts = {part: self._records(path) if path else [] for part, path in lists.items()}
        seen: dict[str, str] = {}
        for part, records in parts.items():
            for record in records:
                if record.id in seen:
                    raise DataError(
                        f"{record.id!r} is named in {seen[record.id]} and in {part}",
                        expected="each video once, in one list",
                        hint="take it out of one of them, or two tests become one",
                        where=self.folder() / (lists[part] or ""),
                    )
                seen[record.id] = part
        return self.split_records(
            split,
            [record for records in parts.values() for record in records],
            is_test=lambda record: seen[record.id] == "test",
            is_val=lambda record: seen[record.id] == "val",
        )

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, channels=self.channels, fps=self.fps, prefix=self.prefix)

    def folder(self) -> Path:
        """The folder of the lists."""
        return resolve_data_path(self.root)

    def _records(self, path: Path) -> list[Record]:
        knob = f"data.{'train' if path == self.train else 'test' if path == self.test else 'val'}"
        lines = self._lines(path, "a list with a line `path label` or `path frames label` for each video", knob)
        frames = all(len(words := line.rsplit(None, 2)) == 3 and words[1].isdigit() for line in lines)
        count, records = len(self.labels()), []
        for line in lines:
            words = line.rsplit(None, 2 if frames else 1)
            if len(words) < 2 or not words[-1].isdigit() or int(words[-1]) >= count:
                raise DataError(
                    f"the line {line!r}",
                    expected=f"`path label` or `path frames label`, with a label of 0 to {count - 1}",
                    hint="mend the line, or correct data.classes",
                    where=self.folder() / path,
                )
            records.append(Record(words[0], self.folder() / words[0], int(words[-1])))
        return records

    def _lines(self, path: Path, expected: str, knob: str) -> list[str]:
        cure = f"correct {knob}, data.root or the environment variable MUYBRIDGE_DATA"
        lines = read_lines(self.folder() / path.expanduser(), expected=expected, hint=cure)
        return [line for line in lines if not line.startswith("#")]
