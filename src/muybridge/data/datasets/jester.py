"""Jester: 27 gestures of a hand in front of a webcam (Materzynska et al., ICCV Workshops 2019)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveFloat

from muybridge.data.datasets.official import OfficialVideos, swap_known
from muybridge.data.datasets.official_lists import Listed, read_class_lines, read_labelled_ids

_MIRRORED = (
    ("Swiping Left", "Swiping Right"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
)


class Jester(OfficialVideos):
    """148,092 videos as images, 12 a second. The list that tests is the official validation list.

    Attributes:
        root: the folder that contains the lists, ``jester-v1-train.csv`` and others, and ``videos``.
    """

    name: Literal["jester"] = "jester"
    folder_name: ClassVar[str] = "jester"
    videos: Path = Path("20bn-jester-v1")
    fps: PositiveFloat = 12.0

    def official_classes(self) -> tuple[str, ...]:
        """The names in ``jester-v1-labels.csv``, in its order."""
        return read_class_lines(self.folder() / "jester-v1-labels.csv")

    def official_counts(self) -> Mapping[str, int]:
        """Of the lists that are published with labels."""
        return {"train": 118_562, "test": 14_787, "classes": 27}

    def listed(self) -> tuple[Listed, ...]:
        """The videos of both lists; see :meth:`OfficialVideos.listed`."""
        folder, names = self.folder(), self.labels()
        return read_labelled_ids(folder / "jester-v1-train.csv", names, False) + read_labelled_ids(
            folder / "jester-v1-validation.csv", names, True
        )

    def mirror(self) -> Mapping[int, int] | None:
        """Swipes, slides of two fingers and turns of the hand change direction."""
        return swap_known(self.labels(), _MIRRORED)
