"""Videos named by list files, in which most benchmarks publish their splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError
from muybridge.core.files import read_once
from muybridge.core.types import Record
from muybridge.data.datasets.base import (
    DatasetConfig,
    Index,
    LabelPairs,
    Split,
    check_class_names,
    parse_swap_pairs,
    preview,
    resolve_data_path,
)
from muybridge.data.datasets.lists import Column, Entry, ListFormat, normalize_path, read_class_names
from muybridge.media.video import SUFFIXES, Video


class VideoList(DatasetConfig):
    """List files with a line ``path label`` or ``path frames label`` for each video, a file or a folder of images.

    Columns are separated by spaces, tabs, commas or semicolons, and may be named in the first line. Paths, which may
    contain spaces, are relative to ``root``. Labels are numbers or class names. Numbers of frames are ignored, as they
    are counted in the videos. Blank lines and lines that begin with ``#`` are comments.

    Attributes:
        root: the folder that the lists' paths and the names of the lists are relative to. If it is relative itself and
            does not exist here, it is looked for under the environment variable MUYBRIDGE_DATA.
        train, test: the lists; if a benchmark does not publish the labels of its test part, use its validation list.
        val: a list for choosing settings; empty, there is none.
        classes: names in label order, or a file of names (lines, CSV with numbers, or JSON), or how many there are.
        first_label: the number of the first class, 0 or 1; empty takes the number that the file of names begins with,
            else 0.
        columns: what is in the columns, such as ["path", "frames", "label"], or "ignore"; empty judges by a header or
            the values.
        mirror_labels: pairs of classes that are each other's mirror image, by name or number; [] if no class has a
            side. Unless this is given, videos are not mirrored.
        reverse_labels: pairs of classes that are each other reversed in time, by name or number; [] if reversing
            changes no class. Unless this is given, videos are not reversed.
        channels: 3 for RGB, 1 for brightness.
        fps: frame rate of folders of images, which have no time stamps.
        prefix: of the names of images, if a folder contains several series.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("channels", "fps", "prefix")
    name: Literal["video_list"] = "video_list"
    root: Path
    train: Path = Path("train.txt")
    test: Path = Path("test.txt")
    val: Path | None = None
    classes: PositiveInt | tuple[str, ...] | Path
    first_label: Literal[0, 1] | None = None
    columns: tuple[Column, ...] = ()
    mirror_labels: LabelPairs | None = None
    reverse_labels: LabelPairs | None = None
    channels: Literal[1, 3] = 3
    fps: PositiveFloat = 30.0
    prefix: str | None = None

    @model_validator(mode="after")
    def _columns_are_complete(self) -> Self:
        named = [column for column in self.columns if column != "ignore"]
        if self.columns and (not {"path", "label"} <= set(named) or len(set(named)) < len(named)):
            raise ValueError(f'columns needs "path" and "label" once each, and is {list(self.columns)}')
        return self

    def resolved(self) -> Self:
        """With an absolute root, and class names written out."""
        names, first = self._classes()
        return self.model_copy(update={"root": self.folder().resolve(), "classes": names, "first_label": first})

    def labels(self) -> tuple[str, ...]:
        """Class names; ``class 0`` and so on if only their number is known.

        Raises:
            DataError: the file of class names cannot be read.
        """
        return self._classes()[0]

    def holds(self) -> ClipData:
        """Videos with the given number of channels."""
        return ClipData(self.channels)

    def mirror(self) -> Mapping[int, int] | None:
        """As ``mirror_labels`` says; forbidden if it is not given."""
        return parse_swap_pairs(self.mirror_labels, self.labels(), "mirror_labels", self.folder())

    def reverse(self) -> Mapping[int, int] | None:
        """As ``reverse_labels`` says; forbidden if it is not given."""
        return parse_swap_pairs(self.reverse_labels, self.labels(), "reverse_labels", self.folder())

    def index(self, split: Split) -> Index:
        """The videos of one list.

        Raises:
            DataError: a list cannot be read, a line of it has an unknown form or label, or a video is listed twice.
        """
        check_class_names(self.labels(), self.folder(), similar=True)
        entries = self._entries()
        records = [Record(id_, self.folder() / id_, entry.label) for id_, (_, entry) in entries.items()]
        return self.split_records(
            split,
            records,
            is_test=lambda record: entries[record.id][0] == "test",
            is_val=lambda record: entries[record.id][0] == "val",
        )

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, channels=self.channels, fps=self.fps, prefix=self.prefix, span=record.span)

    def describe_split(self) -> str:
        """Which list is which part."""
        lists = self._lists()
        named = "; ".join(f"{part}: {path}" for part, path in lists.items())
        return f"given by lists, {named}" + ("" if "val" in lists else "; nothing validates (data.val is not given)")

    def notices(self) -> tuple[str, ...]:
        """Videos that are listed and do not exist."""
        missing = [id_ for id_ in self._entries() if not (self.folder() / id_).exists()]
        return (f"{len(missing)} videos of the lists do not exist: {preview(missing)}",) if missing else ()

    def folder(self) -> Path:
        """The folder of the lists."""
        return resolve_data_path(self.root)

    def _classes(self) -> tuple[tuple[str, ...], Literal[0, 1]]:
        """Class names, and the number of the first class."""
        first: Literal[0, 1]
        if isinstance(self.classes, Path):
            file = self.folder() / self.classes.expanduser()
            names, counted_from = read_class_names(file, hint=_hint("data.classes"))
            first = 1 if counted_from else 0
        elif isinstance(self.classes, int):
            first = self.first_label or 0
            names = tuple(f"class {label}" for label in range(first, first + self.classes))
        else:
            names, first = self.classes, 0
        return names, first if self.first_label is None else self.first_label

    def _lists(self) -> dict[Split, Path]:
        lists: dict[Split, Path | None] = {"train": self.train, "val": self.val, "test": self.test}
        return {part: path for part, path in lists.items() if path}

    def _entries(self) -> dict[str, tuple[Split, Entry]]:
        """The part and the entry of every video by its id, which is its path in one form."""
        names, first = self._classes()
        form = ListFormat(names, first, self.columns, SUFFIXES)
        entries: dict[str, tuple[Split, Entry]] = {}
        for part, path in self._lists().items():
            for entry in _read(self.folder() / path.expanduser(), form, f"data.{part}"):
                id_ = normalize_path(entry.path, self.folder())
                if id_ in entries:
                    other, earlier = entries[id_]
                    first, second = f"{self._lists()[other]}, line {earlier.line}", f"{path}, line {entry.line}"
                    raise DataError(
                        f"{id_!r} is listed in {first}, and in {second}",
                        expected="each video once, in one list",
                        hint="remove one of the lines; a video that is trained on cannot test",
                        where=self.folder() / path,
                    )
                entries[id_] = part, entry
        return entries


@read_once
def _read(file: Path, form: ListFormat, setting: str) -> tuple[Entry, ...]:
    """The entries of a list."""
    return tuple(form.read(file, hint=_hint(setting)))


def _hint(setting: str) -> str:
    return f"correct {setting}, data.root or the environment variable MUYBRIDGE_DATA"
