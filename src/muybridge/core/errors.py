"""Every error a user can cause or fix, as one tree.

MuybridgeError
├── DataError            a recording, an index or a folder of data
├── RecipeError          a recipe, a setting, or a model and a data set that do not match
├── RunError             a run folder: missing, damaged, of another version, or not writable
├── MissingExtraError    an optional package that is not installed
└── RequestError         a request that `muybridge serve` does not answer

The command line prints these without a traceback and exits with status 2. Any other exception is a bug of ours.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar


class MuybridgeError(Exception):
    """An error the user can fix, reported in three parts: what is wrong, what was expected, what to do.

    Args:
        problem: what is wrong, with the file, line or frame where there is one.
        expected: what should have been there.
        hint: what to do now.
        where: the file or folder concerned; printed first.
    """

    exit_status: ClassVar[int] = 2
    """Of the command line."""

    def __init__(self, problem: str, *, expected: str, hint: str, where: str | Path | None = None) -> None:
        self.problem, self.expected, self.hint, self.where = problem, expected, hint, where
        prefix = f"{where}: " if where is not None else ""
        end = "" if hint.endswith("?") else "."
        super().__init__(f"{prefix}{problem}. Expected {expected}. {hint[:1].upper()}{hint[1:]}{end}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes pickle their errors; by default pickle calls __init__ without the keyword arguments.
        return partial(type(self), self.problem, **self._arguments()), ()

    def _arguments(self) -> dict[str, Any]:
        """The keyword arguments that make an equal error."""
        return {"expected": self.expected, "hint": self.hint, "where": self.where}


class DataError(MuybridgeError):
    """A recording, an index or a folder of data is not as it should be."""


class RecipeError(MuybridgeError):
    """A recipe cannot be read, has an invalid value, or combines parts that do not match."""


class RunError(MuybridgeError):
    """A run folder is missing, damaged, written by another version, or not writable."""


class MissingExtraError(MuybridgeError):
    """An optional package is required and not installed; the message names the pip command."""


class RequestError(MuybridgeError):
    """A request that the server does not answer.

    Args:
        problem, expected, hint, where: see :class:`MuybridgeError`.
        status: of the HTTP response.
        retry_after: seconds after which the client may try again; 0 where that does not help.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str,
        hint: str,
        where: str | Path | None = None,
        status: int = 400,
        retry_after: int = 0,
    ) -> None:
        super().__init__(problem, expected=expected, hint=hint, where=where)
        self.status, self.retry_after = status, retry_after

    def _arguments(self) -> dict[str, Any]:
        return super()._arguments() | {"status": self.status, "retry_after": self.retry_after}


class MuybridgeWarning(UserWarning):
    """A result that may not be what was meant, such as one label for a recording much longer than those of training."""
