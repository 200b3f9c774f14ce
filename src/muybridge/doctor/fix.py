"""A list of the recordings without those that are wrong; the recordings themselves are never touched."""

from dataclasses import dataclass
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.data.annotations.write import write_table
from muybridge.doctor.findings import Diagnosis


@dataclass(frozen=True, slots=True)
class Fixed:
    """What became of a list.

    Attributes:
        kept: recordings in it.
        removed: recordings that it leaves out.
        classes: names of those that are left out as a whole, as no training recording of theirs is left.
    """

    kept: int
    removed: int
    classes: tuple[str, ...]


def write_list(diagnosis: Diagnosis, path: Path) -> Fixed:
    """Write a table of the recordings with their split, see :func:`write_table`.

    Args:
        diagnosis: of a data set that could be indexed.
        path: of the file; its folder exists.

    Raises:
        DataError: fewer than two classes have training recordings left.
        OSError: it cannot be written.
    """
    removed = diagnosis.removed
    sound = [(split, record) for split, record in diagnosis.records if record.id not in removed]
    trained = {record.label for split, record in sound if split == "train"}
    if len(trained) < 2:
        raise DataError(
            f"without what is wrong, {len(trained)} class{'es' * (len(trained) != 1)} with training recordings "
            f"{'are' if len(trained) != 1 else 'is'} left",
            expected="two classes or more",
            hint="mend the recordings, or divide them in another way (muybridge split)",
            where=path,
        )
    kept = [(split, record) for split, record in sound if record.label in trained]
    write_table(path, [record for _, record in kept], diagnosis.labels, split=[split for split, _ in kept])
    lost = sorted({record.label for _, record in sound} - trained)
    unread = len(removed - {record.id for _, record in diagnosis.records})
    return Fixed(
        len(kept), len(diagnosis.records) - len(kept) + unread, tuple(diagnosis.labels[label] for label in lost)
    )
