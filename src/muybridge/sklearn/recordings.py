"""The recordings of a ``fit`` as a folder that a recipe can name.

Legend: N recordings, T frames, P people, J joints, D coordinates.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.files import is_system_name
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, sequence_from_array

GROUP = r"/g(\d+)_"
"""What finds the group in the name of a file."""

_FOLDER_NAME = re.compile(r"[\w(][\w .,()+-]*(?<![ .])", re.ASCII)


def check_recordings(X: Any) -> Any:  # noqa: N803 - scikit-learn's name
    """The recordings as a sequence.

    Args:
        X: a list of arrays, sequences of skeletons or paths; or one array of equally long recordings.

    Raises:
        TypeError: a single recording or path, or a sparse matrix.
        ValueError: none, or an array that is no list of recordings.
    """
    if isinstance(X, str | bytes | os.PathLike | SkeletonSequence) or not hasattr(X, "__len__") or hasattr(X, "nnz"):
        raise TypeError(
            f"X is {type(X).__name__!r}. Expected a list of recordings: arrays T P J D or T J D, SkeletonSequence, or "
            "paths of videos or skeleton files"
        )
    if hasattr(X, "iloc"):  # a column of pandas, whose index is not by position
        X = X.to_numpy()  # noqa: N806
    if not len(X):
        raise ValueError("Found array with 0 sample(s): X is empty, and a minimum of 1 recording is required")
    if isinstance(X, np.ndarray | Tensor) and X.ndim not in (1, 4, 5):
        raise ValueError(
            f"X is an array of the shape {tuple(X.shape)}. Expected N T P J D or N T J D (recordings, frames, people, "
            "joints, coordinates), or a list of recordings. Reshape your data: a table of features is no recording"
        )
    return X


def write_recordings(
    folder: Path,
    X: Sequence[Any],  # noqa: N803
    labels: Sequence[str],
    groups: Sequence[int] | None,
    options: ReadOptions,
) -> None:
    """Write ``CLASS/gGROUP_rNUMBER.npz`` for arrays, and links of such names for paths.

    Args:
        folder: to write into.
        X: the recordings.
        labels: name of the class folder of each.
        groups: number of the group of each.
        options: how arrays are read.

    Raises:
        DataError: an array has no joints, a path does not exist, or settings say how a sequence is to be read.
    """
    for number, (item, label) in enumerate(zip(X, labels, strict=True)):
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        name = f"g{groups[number] if groups is not None else 0:06}_r{number:06}"
        if isinstance(item, str | os.PathLike):
            _link(Path(item).expanduser(), place / name, number)
        elif isinstance(item, SkeletonSequence):
            _check_arranged(number, options)
            np.savez(place / f"{name}.npz", joints=item.joints.numpy(), present=item.present.numpy())
        else:
            array = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
            sequence_from_array(array, options=options, where=Path(f"X[{number}]"))  # says what is wrong, and where
            np.savez(place / f"{name}.npz", joints=array)


def folder_names(classes: Sequence[Any]) -> list[str]:
    """A name for the folder of each class: its own, where all of them can be names of folders."""
    names = [str(label) for label in classes]
    usable = all(_FOLDER_NAME.fullmatch(name) and name[0] != "_" and not is_system_name(name) for name in names)
    different = len({name.casefold().replace(" ", "").replace("_", "") for name in names}) == len(names)
    return names if usable and different else [f"class {number}" for number in range(len(names))]


def _check_arranged(number: int, options: ReadOptions) -> None:
    """A sequence is as it is: a prediction does not rearrange it, and so neither does the training."""
    if options != ReadOptions():
        raise DataError(
            "a SkeletonSequence is arranged already, and data.axes, data.coordinates or data.up is set",
            expected="arrays or paths with these settings, or sequences without them",
            hint="leave the settings out, or give arrays",
            where=f"X[{number}]",
        )


def _link(path: Path, link: Path, number: int) -> None:
    if not path.exists():
        raise DataError("no such file or folder", expected=f"the recording X[{number}]", hint="check it", where=path)
    link = link if path.is_dir() else link.with_name(link.name + path.suffix)
    try:
        link.symlink_to(path.resolve(), target_is_directory=path.is_dir())
    except OSError:  # Windows allows links to administrators alone
        (shutil.copytree if path.is_dir() else shutil.copy)(path, link)
