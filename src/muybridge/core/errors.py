"""Everything that can go wrong for a user, as one tree.

MuybridgeError
├── DataError       a recording, an index or a folder of data
├── RecipeError     a recipe, an option, or a model married to the wrong data
├── RunError        a run folder: missing, damaged, from another version, or not writable
└── MissingExtraError    an optional package that is not installed

The command line prints these without a traceback and exits with status 2. Anything else is our bug.
"""

from functools import partial
from pathlib import Path
from typing import Any


class MuybridgeError(Exception):
    """A problem a user can mend, told in three beats: what came, what was expected, what to do.

    Args:
        came: what was found, with file, line or frame where there is one.
        expected: what should have been there.
        cure: what to do now.
        where: the file or folder it is about; printed first.
    """

    def __init__(self, problem: str, *, expected: str, hint: str, where: str | Path | None = None) -> None:
        self.problem, self.expected, self.hint, self.where = problem, expected, hint, where
        place = f"{where}: " if where is not None else ""
        super().__init__(f"{place}{problem}. Expected {expected}. {hint[:1].upper()}{hint[1:]}.")

    def __reduce__(self) -> tuple[Any, ...]:
        # Loading processes hand their errors over, which a keyword in __init__ would otherwise prevent.
        made = partial(type(self), self.problem, expected=self.expected, hint=self.hint, where=self.where)
        return made, ()


class DataError(MuybridgeError):
    """A recording, an index or a folder of data is not what it should be."""


class RecipeError(MuybridgeError):
    """A recipe cannot be read, has a wrong value, or joins things that do not fit."""


class RunError(MuybridgeError):
    """A run folder is missing, damaged, made by another version, or cannot be written."""


class MissingExtraError(MuybridgeError):
    """An optional package is needed and not installed; the message names the pip command."""
