"""The interface of data sets: which recordings there are, how one is opened, what it contains."""

import itertools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from muybridge.core.contracts import Holds
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.files import find_files
from muybridge.core.tubes import TubeSet
from muybridge.core.types import Record, SkeletonSequence
from muybridge.media.arrays import ReadOptions
from muybridge.media.video import Video

Split = Literal["train", "val", "test"]
LabelPairs = tuple[tuple[int | str, int | str], ...]
"""Pairs of classes, by name or number."""

_CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Excluded:
    """A recording that is excluded from an index, and why; the run folder lists them."""

    id: str
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """The recordings of one split, in a stable order, and those that are excluded from it."""

    records: tuple[Record, ...]
    excluded: tuple[Excluded, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


class DatasetConfig(BaseModel):
    """Where a data set is and which of its protocols is used: an immutable config. Unknown settings are errors.

    Attributes:
        val_groups: people or sources of the training part that are held out for choosing settings; they leave
            ``train`` and make up ``val``. If empty, ``train`` is the whole training part and ``val`` is empty.
        content_settings: names of the settings that change the frames of a recording, not only which recordings there
            are and how they are split; stored features depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    content_settings: ClassVar[tuple[str, ...]] = ()
    val_groups: tuple[str, ...] = ()

    def resolved(self) -> Self:
        """This config with everything written out that depends on reading the data; a run folder keeps this one."""
        return self

    def labels(self) -> tuple[str, ...]:
        """Class names in label order."""
        raise NotImplementedError

    def holds(self) -> Holds:
        """What kind of recordings the data set contains."""
        raise NotImplementedError

    def mirror(self) -> Mapping[int, int] | None:
        """New label of each label that mirroring changes; empty where none does; None where mirroring is forbidden."""
        raise NotImplementedError

    def reverse(self) -> Mapping[int, int] | None:
        """New label of each label that playing backwards changes; empty where none does; None where it is forbidden."""
        return None

    def multi_label(self) -> bool:
        """Whether a recording may have several labels, each of which is there or not; known without reading any."""
        return False

    def superclasses(self) -> tuple[str, ...]:
        """For each label the superclass it belongs to, if the accuracy over superclasses is of interest."""
        return ()

    def folds(self) -> tuple[str, ...]:
        """Values of the field ``fold`` for cross-validation; empty where there is one fixed split."""
        return ()

    def generate(self, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> None:
        """Makes the recordings of a generated data set where they do not exist, ahead of :meth:`index`, which would.

        Args:
            progress: called with how many parts are finished, and of how many.
            workers: processes; several need the usual ``if __name__ == "__main__":`` around a script's own work.
        """

    def index(self, split: Split) -> Index:
        """The recordings of one split.

        Raises:
            DataError: the folder is missing, is not laid out as expected, or the split is empty.
        """
        raise NotImplementedError

    def open(self, record: Record) -> SkeletonSequence | Video:
        """The recording behind a record; raises DataError with file and line or frame if it cannot be read."""
        raise NotImplementedError

    def read_options(self) -> ReadOptions:
        """How skeleton files and arrays of this kind are read, where they do not say it themselves."""
        return ReadOptions()

    def notices(self) -> tuple[str, ...]:
        """What the recordings show that a user should know before training, a sentence each; reads some of them."""
        return ()

    def boxes(self, record: Record) -> Float32[Tensor, "T 4"] | None:
        """The true box of the actor in each frame (left, top, right, bottom in pixels); None if unknown."""
        del record
        return None

    def tubes(self) -> TubeSet | None:
        """The true boxes of all actors over time, by the ids of recordings, with or without suffix; None if unknown."""
        return None

    def describe_split(self) -> str:
        """How the split was made, in words."""
        held_out = f"; held out for validation: {', '.join(self.val_groups)}" if self.val_groups else ""
        return f"the published split of {type(self).__name__}{held_out}"

    def unread(self) -> Mapping[str, int]:
        """How many files in the folder are no recordings, by suffix."""
        return {}

    def split_records(
        self,
        split: Split,
        records: Iterable[Record],
        *,
        is_test: Callable[[Record], bool],
        is_val: Callable[[Record], bool] | None = None,
        excluded: Mapping[str, str] | None = None,
    ) -> Index:
        """The part of ``records`` that makes up a split, in the order of their ids.

        Args:
            split: which part.
            records: every recording of the data set.
            is_test: whether a recording belongs to the test part.
            is_val: whether a recording that does not is held out for ``val``; by default, whether its group is in
                ``val_groups``.
            excluded: why a recording is excluded, by its id.

        Raises:
            DataError: ``val_groups`` names a group the training part does not have, the split is empty, or two
                recordings have the same id.
        """
        excluded, records = excluded or {}, list(records)
        _check_ids(records)
        tested, rest = [], []
        for record in sorted(records, key=lambda record: record.id):
            (tested if is_test(record) else rest).append(record)
        known = {record.group for record in rest}
        if unknown := sorted(set(self.val_groups) - known):
            raise DataError(
                f"val_groups names {', '.join(unknown)}",
                expected=f"groups of the training part: {', '.join(sorted(known)) or 'there are none'}",
                hint="correct data.val_groups",
            )
        is_val = is_val or (lambda record: record.group in self.val_groups)
        part = tested if split == "test" else [record for record in rest if is_val(record) == (split == "val")]
        index = Index(
            tuple(record for record in part if record.id not in excluded),
            tuple(Excluded(record.id, record.path, excluded[record.id]) for record in part if record.id in excluded),
        )
        if not index.records and (split != "val" or self.val_groups):
            left_out = index.excluded[:1]
            reason = "".join(
                f", as all {len(part)} recordings are excluded ({one.id}: {one.reason})" for one in left_out
            )
            raise DataError(
                f"the {split} split is empty{reason}",
                expected="at least one usable recording",
                hint="add recordings (a class needs one for training and one for the test), or check data.root, "
                "data.val_groups and the fold or test groups",
            )
        return index


def require_one_label(data: DatasetConfig, what: str) -> None:
    """Refuse recordings of several labels where one is needed.

    Args:
        data: the data set.
        what: is asked for, such as "a confusion matrix".

    Raises:
        RecipeError: recordings may have several labels.
    """
    if data.multi_label():
        raise RecipeError(
            f"{what} of recordings that may have several labels (data.label_separator)",
            expected="recordings of one label each",
            hint="several labels are trained, tested and predicted: `muybridge train`, `test` and `predict`",
        )


def _check_ids(records: Sequence[Record]) -> None:
    """Refuse ids that are not unique, or that a table of results could not hold."""
    paths: dict[str, Path] = {}
    for record in records:
        if record.id in paths:
            raise DataError(
                f"two recordings are called {record.id!r}, {paths[record.id]} and {record.path}",
                expected="each recording once",
                hint="remove one of them",
                where=record.path,
            )
        if _CONTROL.search(record.id):
            raise DataError(
                f"the name {record.id!r} contains a line break or another control character",
                expected="a name on one line",
                hint="rename the file or its folder",
                where=record.path,
            )
        paths[record.id] = record.path


def check_class_names(
    names: Sequence[str],
    where: Path,
    *,
    similar: bool = False,
    hint: str = "",
    places: Callable[[], Mapping[str, str]] = dict,
) -> None:
    """Refuse class names with which a training would fail or mislead.

    Args:
        names: of all classes, in label order.
        where: the folder or file they come from.
        similar: whether names that differ only in case, spaces or Unicode form are accepted.
        hint: what to do if there is only one class.
        places: gives where in a file names stand, such as "line 7"; called only where one is at fault.

    Raises:
        DataError: there are fewer than two classes, a name is empty, repeated or contains a line break, or two names
            look alike.
    """
    if len(names) < 2:
        raise DataError(
            f"there is a single class, {names[0]!r}" if names else "there are no classes",
            expected="two classes or more, as a classifier has to choose between them",
            hint=hint or "add another class",
            where=where,
        )
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if _CONTROL.search(name) or not name.strip():
            raise DataError(
                f"the class name {name!r} "
                + ("contains a line break or a character that no text has" if name.strip() else "is empty")
                + _at(places(), name),
                expected="a name on one line",
                hint="rename the class",
                where=where,
            )
        same[name if similar else _normalized(name)].append(name)
    for alike in same.values():
        if len(alike) > 1:
            repeated = len(set(alike)) < len(alike)
            raise DataError(
                f"the class {alike[0]!r} is given twice"
                if repeated
                else f"the classes {alike[0]!r} and {alike[1]!r} differ only in case, spaces or the form of accents"
                + _at(places(), *alike[:2]),
                expected="names that are clearly different",
                hint="rename one" if repeated else "merge or rename them; to keep both, list all names in data.classes",
                where=where,
            )


def _at(places: Mapping[str, str], *names: str) -> str:
    """Where names stand, in parentheses; empty where that is not known."""
    known = [places[name] for name in names if name in places]
    return f" ({' and '.join(known)})" if known else ""


def _normalized(name: str) -> str:
    return " ".join(re.sub("[_-]", " ", unicodedata.normalize("NFKC", name)).casefold().split())


def preview(names: Collection[str], most: int = 4) -> str:
    """The first few of some names, and how many more there are."""
    first = ", ".join(itertools.islice(names, most))
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def swap_map(labels: Sequence[str], pairs: Iterable[tuple[str, str]]) -> dict[int, int]:
    """For each label whose class is swapped with another one the label of that, from pairs of class names."""
    numbers = [(labels.index(first), labels.index(second)) for first, second in pairs]
    return dict(numbers) | {second: first for first, second in numbers}


def parse_swap_pairs(
    pairs: LabelPairs | None, labels: Sequence[str], setting: str, where: Path
) -> dict[int, int] | None:
    """For each label whose class is swapped with another one the label of that, as a setting says.

    Args:
        pairs: classes by name or number; None if the setting is not given.
        labels: the names of all classes.
        setting: the name of the setting.
        where: the folder of the data set.

    Returns:
        As :func:`swap_map`; None without pairs.

    Raises:
        DataError: a pair names an unknown class, or a class is named twice.
    """
    if pairs is None:
        return None
    numbers: list[int] = []
    for name in itertools.chain.from_iterable(pairs):
        number = name if isinstance(name, int) else labels.index(name) if name in labels else -1
        if not 0 <= number < len(labels) or number in numbers:
            raise DataError(
                f"{setting} names the class {name!r}" + (" twice" if number in numbers else ""),
                expected=f"classes among {', '.join(labels)}, or numbers of 0 to {len(labels) - 1}, each once",
                hint=f"correct data.{setting}",
                where=where,
            )
        numbers.append(number)
    names = [labels[number] for number in numbers]
    return swap_map(labels, zip(names[::2], names[1::2], strict=True))


def resolve_data_path(path: Path) -> Path:
    """A folder; if it is relative and does not exist here, it is looked for under MUYBRIDGE_DATA."""
    path, data = path.expanduser(), os.environ.get("MUYBRIDGE_DATA", "")
    return Path(data) / path if data and not path.is_absolute() and not path.is_dir() else path


class Benchmark(DatasetConfig):
    """A published data set in a folder of its own.

    Attributes:
        root: its folder; without it, the folder ``folder_name`` under the environment variable MUYBRIDGE_DATA.
    """

    root: Path | None = None
    folder_name: ClassVar[str]

    def default_folder_name(self) -> str:
        """The name of the folder under MUYBRIDGE_DATA, ``folder_name`` unless editions have folders of their own."""
        return self.folder_name

    def official_counts(self) -> Mapping[str, int]:
        """How many recordings were published for ``train`` and ``test``, and how many ``classes``, where known."""
        return {}

    def resolved(self) -> Self:
        """With an absolute root, where one is given."""
        return self.model_copy(update={"root": self.root.expanduser().resolve()}) if self.root else self

    def folder(self) -> Path:
        """The folder of the data set.

        Raises:
            DataError: it is not known, or does not exist.
        """
        name = self.default_folder_name()
        root = self.root.expanduser() if self.root else None
        if root is None:
            data = os.environ.get("MUYBRIDGE_DATA", "")
            if not data:
                raise DataError(
                    f"the folder of {name} is not known",
                    expected="data.root in the recipe, or the environment variable MUYBRIDGE_DATA",
                    hint=f"set MUYBRIDGE_DATA to the folder that contains {name}, or set data.root",
                )
            root = Path(data) / name
        if not root.is_dir():
            raise DataError(
                "there is no such folder",
                expected=f"the folder of {name}",
                hint="correct data.root or the environment variable MUYBRIDGE_DATA",
                where=root,
            )
        return root

    def find(self, pattern: str) -> list[Path]:
        """The files anywhere in the folder whose path ends as a glob pattern says, sorted; see :func:`find_files`.

        Raises:
            DataError: there are none; see also :meth:`folder`.
        """
        root = self.folder()
        files = [path for path in find_files(root, {Path(pattern).suffix}).files if path.match(pattern)]
        if not files:
            raise DataError(
                "the folder holds no recordings",
                expected=f"files called {pattern}",
                hint="unpack the data set here, or correct data.root",
                where=root,
            )
        return files
