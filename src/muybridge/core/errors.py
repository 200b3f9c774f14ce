"""The errors that a user can cause and fix, as one tree.

MuybridgeError
├── DataError       a recording, an index or a folder of data
├── RecipeError     a recipe, an option, or a model and a data set that do not match
├── RunError        a run folder: missing, damaged, from another version, or not writable
└── MissingExtraError    an optional package that is not installed

The command line prints these without a traceback and exits with status 2. Any other exception is a bug.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar


class MuybridgeError(Exception):
    """A problem that a user can fix, described in three parts: the problem, what was expected, and what to do.

    Args:
        problem: what is wrong, with line or frame where there is one.
        expected: what should have been there.
        hint: what to do now.
        where: the file or folder it is about; printed first.
    """

    exit_status: ClassVar[int] = 2
    """Of the command line."""

    def __init__(self, problem: str, *, expected: str, hint: str, where: str | Path | None = None) -> None:
        self.problem, self.expected, self.hint, self.where = problem, expected, hint, where
        place = f"{where}: " if where is not None else ""
        end = "" if hint.endswith("?") else "."
        super().__init__(f"{place}{problem}. Expected {expected}. {hint[:1].upper()}{hint[1:]}{end}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of loading processes are pickled, which keyword arguments of __init__ would otherwise prevent.
        build = partial(type(self), self.problem, expected=self.expected, hint=self.hint, where=self.where)
        return build, ()


class DataError(MuybridgeError):
    """A recording, an index or a folder of data is not what it should be."""


class RecipeError(MuybridgeError):
    """A recipe cannot be read, has a wrong value, or joins things that do not fit."""


class RunError(MuybridgeError):
    """A run folder is missing, damaged, made by another version, or cannot be written."""


class MissingExtraError(MuybridgeError):
    """An optional package is needed and not installed; the message names the pip command."""


class MuybridgeWarning(UserWarning):
    """A result that may not be what was meant, such as one label for a recording much longer than those of training."""
