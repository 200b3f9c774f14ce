"""Commands over many recordings: those that fail are listed at the end, and do not stop the others."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Union

import typer

if TYPE_CHECKING:
    from muybridge.core.types import FailedSample

Answer = TypeVar("Answer")


class Failures:
    """Collects the recordings that cannot be read; at the end of the block lists them and exits with status 2.

    Args:
        strict: raise the error of the first one instead.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.samples: list[FailedSample] = []
        self.answered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.samples:
            return
        total = self.answered + len(self.samples)
        typer.echo(f"muybridge: {len(self.samples)} of {total} recordings failed:", err=True)
        for sample in self.samples:
            typer.echo(f"  {describe(sample)}", err=True)
        if error is None:
            raise typer.Exit(2)

    def apart(self, answers: Iterable[Union[Answer, "FailedSample"]]) -> Iterator[Answer]:
        """The answers, without those that failed.

        Raises:
            DataError: one failed, and ``strict`` is set.
        """
        from muybridge.core.types import FailedSample  # torch takes seconds to import; `--help` does not need it

        for answer in answers:
            if not isinstance(answer, FailedSample):
                self.answered += 1
                yield answer
            elif self.strict:
                raise answer.error
            else:
                self.samples.append(answer)


def describe(sample: "FailedSample") -> str:
    """One line with the path and what is wrong with it."""
    message = printable(str(sample.error))
    return message if sample.error.where is not None else f"{printable(sample.id)}: {message}"


def printable(text: str) -> str:
    """A path as one line that every terminal can print: line ends, control characters and odd bytes are escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
