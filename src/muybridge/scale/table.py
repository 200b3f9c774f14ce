"""The table of labels: a folder of Parquet partitions, each of which appears whole.

What is done is what is in it: every row has the content key of its recording, and there is no other list that could say
something else. One process writes, so that nothing that lingers after a kill can add a row.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
from pyarrow import parquet

from muybridge import __version__
from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, lock_folder

MANIFEST = "_label.json"
"""What the rows have in common; readers of Parquet folders pass over names that begin so."""

FORMAT = 1

_compute: Any = pyarrow.compute  # whose functions are made when it is imported

_ANSWER: list[tuple[str, pyarrow.DataType]] = [
    ("label", pyarrow.string()),
    ("score", pyarrow.float64()),
    ("labels", pyarrow.list_(pyarrow.string())),
    ("scores", pyarrow.list_(pyarrow.float64())),
    ("rejected", pyarrow.bool_()),
]
_TIMELINE: list[tuple[str, pyarrow.DataType]] = [
    ("duration", pyarrow.float64()),
    (
        "segments",
        pyarrow.list_(
            pyarrow.struct(
                [
                    ("start", pyarrow.float64()),
                    ("end", pyarrow.float64()),
                    ("label", pyarrow.string()),
                    ("score", pyarrow.float64()),
                ]
            )
        ),
    ),
]


def row_schema(timeline: bool) -> pyarrow.Schema:
    """The columns: one label for each recording, or its segments."""
    first = [("path", pyarrow.string()), ("key", pyarrow.string())]
    last = [("warning", pyarrow.string()), ("error", pyarrow.string())]
    return pyarrow.schema([*first, *(_TIMELINE if timeline else _ANSWER), *last])


class LabelTable:
    """A folder of partitions, open for one command; :meth:`open` makes one.

    Args:
        folder: it exists.
        schema: of the rows.
        save_seconds, save_rows: a partition is written when it has so many rows, or after so long.
    """

    def __init__(self, folder: Path, schema: pyarrow.Schema, save_seconds: float, save_rows: int) -> None:
        self.folder, self.schema = folder, schema
        self.save_seconds, self.save_rows = save_seconds, save_rows
        self._waiting: list[pyarrow.Table] = []
        self._saved = time.monotonic()

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, facts: dict[str, Any], schema: pyarrow.Schema, save_seconds: float, save_rows: int
    ) -> Iterator["LabelTable"]:
        """The table in a folder, made if needed; what was added is saved when the block ends, also by an error.

        Args:
            folder: of the table.
            facts: what all its rows have in common.
            schema, save_seconds, save_rows: see the class.

        Raises:
            DataError: it holds something else, or rows of another run or of other settings; another process labels into
                it; it cannot be written, or a partition is damaged.
        """
        table = cls(folder, schema, save_seconds, save_rows)
        busy = DataError(
            "another process labels into this folder",
            expected="one at a time",
            hint="wait for it, or choose another --out",
            where=folder,
        )
        with _write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(folder, busy):
            table._check(facts)
            for draft in folder.glob(".*.parquet-*"):  # of a command that was killed
                draft.unlink(missing_ok=True)
            table.drop_superseded()
            try:
                yield table
            finally:
                table.save()
            table.drop_superseded()

    def keys(self) -> pyarrow.Table:
        """The columns path and key of all rows."""
        tables = [_read(file, ["path", "key"]) for file in self.partitions()]
        return pyarrow.concat_tables([self.schema.empty_table().select(["path", "key"]), *tables])

    def partitions(self) -> list[Path]:
        """The files in the order in which they were written."""
        return sorted(self.folder.glob("part-*.parquet"), key=_number)

    def add(self, rows: pyarrow.Table) -> None:
        """Rows that are done; they are written together with others."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= self.save_rows or time.monotonic() - self._saved >= self.save_seconds:
            self.save()

    def save(self) -> None:
        """Write what was added as the next partition, flushed to the disk."""
        if self._waiting:
            numbers = [_number(file) for file in self.partitions()]
            rows = pyarrow.concat_tables(self._waiting)
            self._write(self.folder / f"part-{max(numbers, default=-1) + 1:06}.parquet", rows)
        self._waiting, self._saved = [], time.monotonic()

    def drop_superseded(self) -> None:
        """Remove the rows of recordings that have a newer one, since they changed or could not be read before."""
        paths = self.keys()["path"]
        counts = paths.value_counts()
        repeated = {row["values"] for row in counts.filter(_compute.greater(counts.field("counts"), 1)).to_pylist()}
        seen: set[str] = set()
        for file in reversed(self.partitions()) if repeated else ():
            rows = _read(file, self.schema.names)
            here = rows["path"].to_pylist()
            keep = [path not in seen for path in here]
            seen.update(repeated.intersection(here))
            if not any(keep):
                file.unlink()
            elif not all(keep):
                self._write(file, rows.filter(pyarrow.array(keep)))

    def _write(self, file: Path, rows: pyarrow.Table) -> None:
        with _write_errors(file), atomic_write(file, shared=True) as draft:
            parquet.write_table(rows, draft, compression="zstd")

    def _check(self, facts: dict[str, Any]) -> None:
        """Refuse a folder of something else; note what the rows have in common in a new one."""
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            if found := [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]:
                raise DataError(
                    f"the folder holds something else: {', '.join(sorted(found)[:3])}",
                    expected="a new folder, or one of an earlier `muybridge label`",
                    hint="choose another --out",
                    where=self.folder,
                )
            with _write_errors(manifest), atomic_write(manifest) as draft:
                draft.write_text(json.dumps({"format": FORMAT, "muybridge": __version__, **facts}, indent=1))
            return
        try:
            there = json.loads(manifest.read_text(encoding="utf-8"))
            number, files, settings = there["format"], there["files"], there["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                "it is damaged",
                expected="what an earlier `muybridge label` wrote",
                hint="restore it, or choose another --out",
                where=manifest,
            ) from None
        if number != FORMAT:
            raise DataError(
                f"the table has format {number}",
                expected=f"format {FORMAT}, that of this version",
                hint="choose another --out, or use the version that began it",
                where=self.folder,
            )
        if files != facts["files"]:
            raise _other_run(there.get("run", "?"), facts["run"], _different(files, facts["files"]), self.folder)
        if settings != facts["settings"]:
            raise DataError(
                f"its rows were made with {json.dumps(settings)}, not {json.dumps(facts['settings'])}",
                expected="the options of the command that began it",
                hint="repeat them, or choose another --out",
                where=self.folder,
            )


def _other_run(there: str, here: str, different: Sequence[str], folder: Path) -> DataError:
    changed = there == here
    return DataError(
        f"its rows are by the run {there}, {'which has changed since' if changed else f'not {here}'}: "
        f"{', '.join(different)} differ",
        expected="one run for all rows of a table",
        hint="choose another --out" + (", or restore the run" if changed else ""),
        where=folder,
    )


def _different(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _number(file: Path) -> int:
    match = re.fullmatch(r"part-(\d+)", file.stem)
    return int(match[1]) if match else -1


def _read(file: Path, columns: Iterable[str]) -> pyarrow.Table:
    try:
        return parquet.read_table(file, columns=list(columns))
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(
            f"the partition is damaged ({problem})",
            expected="a Parquet file of `muybridge label`",
            hint="remove it; the same command labels its recordings again",
            where=file,
        ) from None


@contextmanager
def _write_errors(where: Path) -> Iterator[None]:
    """Turn failing writes into a DataError."""
    try:
        yield
    except OSError as problem:
        raise DataError(
            f"cannot be written ({problem.strerror or problem})",
            expected="a folder that can be written, with free space",
            hint="free some space and give the same command again: what was saved is kept",
            where=where,
        ) from None
