"""Something-Something V1 and V2: 174 actions with objects (Goyal et al., ICCV 2017; Mahdisoltani et al., 2018)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveFloat

from muybridge.core.errors import DataError
from muybridge.core.files import read_once
from muybridge.data.datasets.official import OfficialVideos, swap_known
from muybridge.data.datasets.official_lists import (
    Listed,
    check_name,
    first_existing,
    item_of,
    read_class_lines,
    read_json,
    read_labelled_ids,
    wrong_line,
)

_MIRRORED = (
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
)


class _Something(OfficialVideos):
    fps: PositiveFloat = 12.0

    def mirror(self) -> Mapping[int, int] | None:
        """Pulling and pushing to the left and to the right, and turning the camera, are each other's mirror images."""
        return swap_known(self.labels(), _MIRRORED)


class SomethingV1(_Something):
    """108,499 videos as images, 12 a second. The list that tests is the official validation list.

    Attributes:
        root: the folder that contains the lists, ``something-something-v1-train.csv`` and others, and ``videos``.
        label_order: "sorted" numbers classes in alphabetical order, as TSM, TDN and SELFY do, and as V2; "file" in the
            order of the file of labels, as MMAction2 does. Weights that were trained with one need the same.
    """

    name: Literal["something_v1"] = "something_v1"
    folder_name: ClassVar[str] = "something_v1"
    videos: Path = Path("20bn-something-something-v1")
    label_order: Literal["sorted", "file"] = "sorted"

    def official_classes(self) -> tuple[str, ...]:
        """The names in ``something-something-v1-labels.csv``."""
        names = read_class_lines(self.folder() / "something-something-v1-labels.csv")
        return tuple(sorted(names)) if self.label_order == "sorted" else names

    def official_counts(self) -> Mapping[str, int]:
        """Of the lists that are published with labels."""
        return {"train": 86_017, "test": 11_522, "classes": 174}

    def listed(self) -> tuple[Listed, ...]:
        """The videos of both lists; see :meth:`OfficialVideos.listed`."""
        folder, names = self.folder(), self.labels()
        return read_labelled_ids(folder / "something-something-v1-train.csv", names, False) + read_labelled_ids(
            folder / "something-something-v1-validation.csv", names, True
        )


class SomethingV2(_Something):
    """220,847 videos, 12 frames a second, in files ``NUMBER.webm``.

    Attributes:
        root: the folder that contains ``videos`` and the lists, ``something-something-v2-train.json`` or
            ``labels/train.json`` and others.
        test_list: which list tests: "validation", as published numbers do, or "test", whose answers came later
            (``test-answers.csv``) and with which the validation list is not used.
    """

    name: Literal["something_v2"] = "something_v2"
    folder_name: ClassVar[str] = "something_v2"
    videos: Path = Path("20bn-something-something-v2")
    test_list: Literal["validation", "test"] = "validation"

    def official_classes(self) -> tuple[str, ...]:
        """The names in ``something-something-v2-labels.json``, which numbers them in alphabetical order."""
        return _read_numbers(self._list("labels"))

    def official_counts(self) -> Mapping[str, int]:
        """Of the lists that are used."""
        return {"train": 168_913, "test": 24_777 if self.test_list == "validation" else 27_157, "classes": 174}

    def listed(self) -> tuple[Listed, ...]:
        """The videos of both lists; see :meth:`OfficialVideos.listed`."""
        names = self.labels()
        train = _read_items(self._list("train"), names, False)
        if self.test_list == "validation":
            return train + _read_items(self._list("validation"), names, True)
        file = first_existing(self.folder(), ("labels/test-answers.csv", "test-answers.csv"))
        return train + read_labelled_ids(file, names, True)

    def _list(self, part: str) -> Path:
        return first_existing(self.folder(), (f"something-something-v2-{part}.json", f"labels/{part}.json"))


@read_once
def _read_numbers(file: Path) -> tuple[str, ...]:
    """Class names in the order of their numbers, which are strings."""
    expected = 'an object that numbers the classes from 0, such as {"Approaching something": "0"}'
    numbers = read_json(file, dict, expected)
    order = {str(number): name for name, number in numbers.items()}
    if len(order) < len(numbers) or set(order) != set(map(str, range(len(order)))):
        raise DataError(
            f"its {len(numbers)} classes have {len(order)} numbers, from {min(order, default='none')}",
            expected=expected,
            hint="fetch the official lists again",
            where=file,
        )
    return tuple(order[str(number)].strip() for number in range(len(order)))


@read_once
def _read_items(file: Path, classes: tuple[str, ...], tests: bool) -> tuple[Listed, ...]:
    """The videos of a list; the class is the template without its brackets."""
    items = read_json(file, list, 'a list of objects with "id" and "template"')
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for place in range(len(items)):
        id_, template = item_of(items, place, {"id": str, "template": str}, file)
        name = template.replace("[", "").replace("]", "").strip()
        if name not in labels:
            raise wrong_line(file, place + 1, f"has the class {name!r}", f"one of the {len(classes)} official classes")
        entries.append(Listed(id_, check_name(id_, file, place + 1), labels[name], tests, file, place + 1))
    return tuple(entries)
