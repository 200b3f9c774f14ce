"""Benchmarks of videos by their official lists, in the layout in which the official archives unpack."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError
from muybridge.core.files import find_files, is_folder, is_system_name
from muybridge.core.types import Record, Span
from muybridge.data.datasets.base import Benchmark, Index, Split, check_class_names, preview, swap_map
from muybridge.data.datasets.drawing import MIN_TRAINING_GROUPS, draw_names, draw_per_class
from muybridge.data.datasets.official_lists import Listed, check_ids
from muybridge.media.video import SUFFIXES, Video

_SHOWN_CLASSES = 8


class OfficialVideos(Benchmark):
    """What these benchmarks share: official lists, videos beside them, and what is done about missing ones.

    Attributes:
        videos: the folder of the videos in ``root``, such as one that `muybridge prepare --reencode` wrote; files of
            any container, or folders of numbered images.
        missing_videos: what is done if the lists name videos that do not exist: "error" refuses to begin, "exclude"
            goes on without them; a notice then counts them by class, and the run folder lists them.
        val_fraction: share of the training part that is drawn for validation, of the sources where these are known,
            else of each class; 0 draws none. ``val_groups`` names sources instead.
        classes: class names in label order; empty reads them from the official file.
        fps: frame rate of folders of images, which have no time stamps.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("fps",)
    nested: ClassVar[bool] = False
    """Whether the videos lie in deeper folders, such as one for each class."""

    videos: Path
    missing_videos: Literal["error", "exclude"] = "error"
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    classes: tuple[str, ...] = ()
    fps: PositiveFloat = 30.0

    @model_validator(mode="after")
    def _one_validation_setting(self) -> Self:
        if self.val_groups and self.val_fraction:
            raise ValueError("val_groups and val_fraction both say what validates; give one of them")
        return self

    def listed(self) -> Sequence[Listed]:
        """Every recording of the lists that train and that test; raises DataError with the line that is wrong."""
        raise NotImplementedError

    def official_classes(self) -> tuple[str, ...]:
        """Class names from the official file."""
        raise NotImplementedError

    def resolved(self) -> Self:
        """With an absolute root, and class names written out."""
        return super().resolved().model_copy(update={"classes": self.labels()})

    def labels(self) -> tuple[str, ...]:
        """Class names, from the official file.

        Raises:
            DataError: it cannot be read.
        """
        return self.classes or self.official_classes()

    def holds(self) -> ClipData:
        """RGB videos."""
        return ClipData()

    def mirror(self) -> Mapping[int, int] | None:
        """Empty: mirroring changes no class."""
        return {}

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        check_class_names(self.labels(), self.folder(), similar=True, hint="fetch the official lists again")
        entries = self.listed()
        check_ids(entries)
        if empty := {"train", "test"} - {"test" if entry.tests else "train" for entry in entries}:
            raise DataError(
                f"the official list of the recordings that {' and that '.join(sorted(empty))} has none",
                expected="recordings in both lists",
                hint="fetch the official lists again, or correct data.root",
                where=self.folder(),
            )
        records, missing = self._records(entries)
        tested = {entry.id for entry in entries if entry.tests}
        rest = [record for record in records if record.id not in tested]
        val = self._draw(rest)
        return self.split_records(
            split,
            records,
            is_test=lambda record: record.id in tested,
            is_val=lambda record: record.id in val,
            excluded={
                **dict.fromkeys(missing, "the video does not exist"),
                **{entry.id: entry.problem for entry in entries if entry.problem},
                **self.unusable(records),
            },
        )

    def unusable(self, records: Sequence[Record]) -> Mapping[str, str]:
        """Why other recordings are excluded, by their ids."""
        del records
        return {}

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, span=record.span, fps=self.fps)

    def files(self) -> Mapping[str, Path]:
        """The videos that exist, by name without suffix.

        Raises:
            DataError: there is no such folder, or it has two videos of one name.
        """
        folder = self.folder() / self.videos.expanduser()
        if not folder.is_dir():
            raise DataError(
                "there is no such folder",
                expected=f"the folder of the videos of {self.folder_name}",
                hint="unpack the official archives here, or correct data.root or data.videos",
                where=folder,
            )
        found = find_files(folder, SUFFIXES).files if self.nested else _videos_in(folder)
        files: dict[str, Path] = {}
        for path in found:
            name = self.video_name(path)
            chosen = self.choose(files[name], path) if name in files else path
            if chosen is None:
                raise DataError(
                    f"{files[name].relative_to(folder)} and {path.relative_to(folder)} may both be the video {name!r}",
                    expected="one of them",
                    hint="move the others elsewhere",
                    where=folder,
                )
            files[name] = chosen
        return files

    def locate(self, entry: Listed, files: Mapping[str, Path]) -> tuple[Path, Span | None] | None:
        """The file of a listed recording, and which part of it that is; None if there is no such file."""
        path = files.get(entry.video)
        return (path, entry.span) if path else None

    def choose(self, first: Path, second: Path) -> Path | None:
        """Which of two files of one name is read; None refuses both."""
        del first, second

    def video_name(self, path: Path) -> str:
        """The name by which lists know a file."""
        return path.name if path.suffix.lower() not in SUFFIXES else path.stem

    def describe_split(self) -> str:
        """The official lists, and what is held out from them."""
        drawn = f"; {self.val_fraction:.0%} of the training part validate, drawn by name" if self.val_fraction else ""
        return super().describe_split() + drawn

    def notices(self) -> tuple[str, ...]:
        """Where the lists have other counts than the published ones, and which videos are missing."""
        entries, official = self.listed(), self.official_counts()
        counts = {"train": 0, "test": 0, "classes": len(self.labels())}
        for entry in entries:
            counts["test" if entry.tests else "train"] += 1
        notices = [
            f"{number} {'classes' if what == 'classes' else f'recordings are listed to {what}'}, "
            f"and {official[what]} were published"
            for what, number in counts.items()
            if what in official and number != official[what]
        ]
        if self.mirror() is None:
            notices.append("the classes have other names than the published ones, so videos are not mirrored")
        if missing := self.missing_by_class():
            total = sum(number for number, _ in missing.values())
            order = sorted(missing, key=lambda name: (-missing[name][0] / missing[name][1], name))
            parts = [f"{name} ({missing[name][0]} of {missing[name][1]})" for name in order]
            notices.append(
                f"{total} of {len(entries)} recordings are missing, of {len(missing)} classes: "
                f"{preview(parts, _SHOWN_CLASSES)}"
            )
        return tuple(notices)

    def missing_by_class(self) -> dict[str, tuple[int, int]]:
        """For each class of which recordings are missing, how many, and of how many that are listed."""
        entries, names = self.listed(), self.labels()
        files = self.files()
        missing = Counter(entry.label for entry in entries if self.locate(entry, files) is None)
        listed = Counter(entry.label for entry in entries)
        return {names[label]: (count, listed[label]) for label, count in sorted(missing.items())}

    def _records(self, entries: Sequence[Listed]) -> tuple[list[Record], list[str]]:
        """A record for each entry, and the ids of those whose video does not exist."""
        files, folder = self.files(), self.folder() / self.videos.expanduser()
        located = [self.locate(entry, files) for entry in entries]
        missing = [entry for entry, place in zip(entries, located, strict=True) if place is None]
        if missing and (self.missing_videos == "error" or len(missing) == len(entries)):
            names = list(dict.fromkeys(entry.video for entry in missing))
            total = len({entry.video for entry in entries})
            go_on = ', or set data.missing_videos = "exclude" to go on without them'
            raise DataError(
                f"{len(names)} of {total} videos of the official lists do not exist: {preview(names)} "
                f"(the first in {missing[0].place})",
                expected="a file, or a folder of images, for each",
                hint="unpack all official archives here, or correct data.videos"
                + (go_on if len(missing) < len(entries) else ""),
                where=folder,
            )
        places = [place or (folder / entry.video, entry.span) for place, entry in zip(located, entries, strict=True)]
        records = [
            Record(entry.id, path, entry.label, entry.group, span=span)
            for entry, (path, span) in zip(entries, places, strict=True)
        ]
        return records, [entry.id for entry in missing]

    def _draw(self, rest: Sequence[Record]) -> set[str]:
        """Ids of the recordings of the training part that validate."""
        groups = {record.group for record in rest}
        if self.val_groups or groups != {""}:
            count = self.val_fraction * len(groups)
            val = set(self.val_groups) or draw_names(groups, "val", count, spare=MIN_TRAINING_GROUPS)
            return {record.id for record in rest if record.group in val}
        return draw_per_class(rest, rest, "val", self.val_fraction) if self.val_fraction else set()


def swap_known(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[int, int] | None:
    """As :func:`swap_map`; None, which forbids mirroring, if the names are not all there and may be others."""
    return swap_map(names, pairs) if {name for pair in pairs for name in pair} <= set(names) else None


def _videos_in(folder: Path) -> list[Path]:
    """Video files in a folder, and folders, which may have images; a file goes before a folder of its name."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                files.append(entry.name)
            elif is_folder(entry):
                folders.append(entry.name)
    stems = {os.path.splitext(name)[0] for name in files}
    return [folder / name for name in sorted([*files, *(name for name in folders if name not in stems)])]
