"""Features that untrained parts of models make of every frame of a data set, computed once and stored on disk.

A store is a folder with a folder for each part of the model, such as ``appearance`` and ``motion``. Each has
``store.json``, the metadata of what made the maps, and ``ID.safetensors`` for each recording: the maps of all its
frames (of optical flow, all but the last; of windows, those that begin at each frame and end within the video), how
many frames it has, and a fingerprint of its file. Files are written
atomically, so that a store that lacks recordings can be completed, and a recording that has changed is detected.

Legend: T frames, D features, h and w map size.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.packed import PackedPath
from muybridge.core.types import Record

FORMAT = 1
"""Of the files; a store of another format is refused."""

Metadata = Mapping[str, Any]
"""What made the maps, by name: numbers, words and lists, as JSON stores them."""

Maps = Float[Tensor, "T D h w"]
Precision = Literal["float16", "float32"]

_COMPLETE = "complete it with `muybridge features RECIPE`"
_OTHER_SETTINGS = "set the option as it was, or make maps for this recipe in another folder with `muybridge features`"
_OTHER_WEIGHTS = "start the CNN from the weights that made them, or make maps for this recipe in another folder"
_HASHED = 2**16  # bytes at either end of a file that make its fingerprint


class PartStore:
    """The maps that one part of a model makes; :meth:`create` to write them, :meth:`open` to read.

    Attributes:
        folder: of the files.
        metadata: what made them.
    """

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self.folder, self.metadata = folder, metadata

    @classmethod
    def create(cls, folder: Path, metadata: Metadata) -> "PartStore":
        """A new store, or an existing one with the same metadata.

        Raises:
            DataError: its metadata differ, or it cannot be written.
        """
        metadata = {"format": FORMAT} | _as_json(metadata)
        if (folder / "store.json").exists():
            return cls.open(folder, metadata)
        with _writing(folder / "store.json") as draft:
            draft.write_text(json.dumps(metadata, indent=1), encoding="utf-8")
        return cls(folder, metadata)

    @classmethod
    def open(cls, folder: Path, expected: Metadata) -> "PartStore":
        """A store that exists.

        Args:
            folder: of the store.
            expected: entries that its metadata must have; it may have more.

        Raises:
            DataError: there is none, it is damaged, or its metadata differ.
        """
        try:
            metadata = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            version = metadata["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                "there is no feature store",
                expected="a folder with store.json in it",
                hint="make one with `muybridge features RECIPE`, or correct view.features",
                where=folder,
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise DataError(
                f"its metadata cannot be read ({problem})",
                expected="JSON with what made the maps",
                hint="delete the folder and make it again with `muybridge features RECIPE`",
                where=folder / "store.json",
            ) from None
        if version != FORMAT:
            raise DataError(
                f"a feature store of format {version}",
                expected=f"format {FORMAT}",
                hint="make it again with `muybridge features RECIPE` of this version",
                where=folder,
            )
        store = cls(folder, metadata)
        store.check(expected)
        return store

    def check(self, expected: Metadata) -> None:
        """Compare the metadata with the expected ones; DataError names what differs."""
        wanted = _as_json(expected)
        differ = [name for name, value in wanted.items() if self.metadata.get(name) != value]
        if differ:
            raise DataError(
                "maps made with other " + ", ".join(f"{name} ({self.metadata.get(name)})" for name in differ),
                expected=", ".join(f"{name} ({wanted[name]})" for name in differ),
                hint=_OTHER_WEIGHTS if differ == ["weights"] else _OTHER_SETTINGS,
                where=self.folder,
            )

    def path(self, record: Record) -> Path:
        """Where the maps of a recording are stored; always inside the folder, whatever its id."""
        name = f"{record.id}.safetensors"
        relative = os.path.normpath(name)
        return self.folder / (quote(name, safe="") if relative.startswith((os.sep, "..")) else relative)

    def holds(self, record: Record) -> bool:
        """Whether the store has the maps of a recording, made from the file as it is now."""
        try:
            self._read_header(record)
        except DataError:
            return False
        return True

    def write(self, record: Record, maps: Maps, frames: int) -> int:
        """Write the maps of a recording of ``frames`` frames; returns the size of the file in bytes.

        Raises:
            DataError: the file cannot be written, or 16 bits cannot hold a number among the maps.
        """
        stored = maps.to(getattr(torch, self.metadata["precision"])).cpu().contiguous()
        if not stored.isfinite().all():
            finite = maps.isfinite().all()
            raise DataError(
                f"the maps of recording {record.id!r} "
                + (f"reach {maps.abs().max():.3g}" if finite else "contain NaN or infinity"),
                expected=f"finite numbers that {self.metadata['precision']} can hold",
                hint="store them with `--precision float32` in another folder"
                if finite
                else "check the weights of the CNN that makes them, and the recording with `muybridge doctor`",
                where=self.folder,
            )
        path = self.path(record)
        # One entry of metadata: the order of several is not defined, and equal maps should be equal files.
        recording = json.dumps({"source": fingerprint(record), "frames": frames})
        with _writing(path) as draft:
            safetensors.torch.save_file({"maps": stored}, draft, {"recording": recording})
        return path.stat().st_size

    def count(self, record: Record) -> tuple[int, int]:
        """How many maps a recording has, and how many frames; see :meth:`read` for what is raised."""
        maps, frames, _ = self._read_header(record)
        return maps, frames

    def read(self, record: Record, numbers: Sequence[int]) -> Maps:
        """The maps of the frames with these numbers, in this order; the range that they span is read once.

        Raises:
            DataError: the recording has no maps, the file is damaged, or was made from another recording.
        """
        count, _, file = self._read_header(record)
        first, last = min(numbers), max(numbers)
        assert 0 <= first <= last < count, f"maps {first} to {last} of {count}"
        span = file.get_slice("maps")[first : last + 1]
        return span if list(numbers) == list(range(first, last + 1)) else span[torch.tensor(numbers) - first]

    @cached_property
    def _sources(self) -> dict[Record, str]:
        """The fingerprints of recordings, computed once in this process."""
        return {}

    def _read_header(self, record: Record) -> tuple[int, int, Any]:
        path = self.path(record)
        try:
            file = safetensors.safe_open(path, framework="pt")
            recording, (maps, *_) = json.loads(file.metadata()["recording"]), file.get_slice("maps").get_shape()
            source, frames = recording["source"], recording["frames"]
        except FileNotFoundError:
            raise DataError("there are no maps of it", expected="its maps", hint=_COMPLETE, where=path) from None
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
            raise DataError(
                f"damaged maps ({problem})",
                expected="a complete safetensors file",
                hint=f"delete it and {_COMPLETE}",
                where=path,
            ) from None
        if record not in self._sources:
            self._sources[record] = fingerprint(record)
        if self._sources[record] != source:
            raise DataError(
                f"maps of another file than {record.path}",
                expected="those of the recording as it is now",
                hint=_COMPLETE,
                where=path,
            )
        return maps, frames, file


class StoredFrames:
    """A recording in a store: the maps of its frames, by the names of the arguments that take them.

    There are as many as every part has: where one reads optical flow, the last frame is left out.
    """

    def __init__(self, record: Record, parts: Mapping[str, PartStore]) -> None:
        self.record, self.parts = record, parts
        counts = {name: part.count(record) for name, part in parts.items()}
        self._length = min(maps for maps, _ in counts.values())
        frames = {name: count for name, (_, count) in counts.items()}
        if len(set(frames.values())) > 1:
            raise DataError(
                "maps of a recording of "
                + " and of ".join(f"{count} frames ({name})" for name, count in frames.items()),
                expected="maps of the same recording in every part",
                hint=f"delete the files of {record.id!r} in the store and {_COMPLETE}",
                where=record.path,
            )

    def __len__(self) -> int:
        return self._length

    def read(self, numbers: Sequence[int]) -> dict[str, Maps]:
        """The maps of the frames with these numbers, in this order."""
        return {name: part.read(self.record, numbers) for name, part in self.parts.items()}

    def close(self) -> None:
        """Nothing to close: no file is kept open."""


class FeatureStore:
    """The maps of all parts that a model reads, opened together.

    Args:
        folder: the store.
        expected: for each part of the model, by its name, entries that its metadata must have.
        outputs: for each part, the argument that takes its maps.

    Raises:
        DataError: a part is missing or was made with other settings.
    """

    def __init__(self, folder: Path, expected: Mapping[str, Metadata], outputs: Mapping[str, str]) -> None:
        self.folder = folder
        self.parts = {outputs[name]: PartStore.open(folder / name, metadata) for name, metadata in expected.items()}

    def open(self, record: Record) -> StoredFrames:
        """The maps of a recording.

        Raises:
            DataError: there are none, or not of the recording as it is now.
        """
        return StoredFrames(record, self.parts)

    def check_complete(self, records: Sequence[Record]) -> None:
        """Raise DataError where recordings have no maps, before training starts."""
        for part in self.parts.values():
            missing = [record.id for record in records if not part.path(record).exists()]
            if missing:
                raise DataError(
                    f"{len(missing)} of {len(records)} recordings have no maps, {missing[0]!r} among them",
                    expected="the maps of all of them",
                    hint=_COMPLETE + ", which goes on where it stopped",
                    where=part.folder,
                )


def fingerprint(record: Record) -> str:
    """A hash that identifies a recording: of size, beginning and end of its file, or of names and sizes in its folder;
    of its span, and whether it is played backwards.

    Raises:
        DataError: the recording is gone.
    """
    digest = hashlib.blake2b(b"backwards" if record.backwards else b"", digest_size=16)
    if record.span is not None:
        digest.update(f"{record.span}\n".encode())
    if isinstance(record.path, PackedPath):
        digest.update(record.path.checksum.encode())
        return digest.hexdigest()
    try:
        if record.path.is_dir():
            for name, size in sorted((entry.name, entry.stat().st_size) for entry in os.scandir(record.path)):
                digest.update(f"{name} {size}\n".encode())
        else:
            with record.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{size}\n".encode())
                file.seek(0)
                digest.update(file.read(_HASHED))
                file.seek(max(0, size - _HASHED))
                digest.update(file.read(_HASHED))
    except OSError as problem:
        raise DataError(
            f"the recording cannot be read ({problem.strerror})",
            expected="the file that the index names",
            hint="check that the data set was not moved",
            where=record.path,
        ) from None
    return digest.hexdigest()


def _as_json(metadata: Metadata) -> dict[str, Any]:
    """The metadata as JSON reads them back: tuples become lists."""
    return json.loads(json.dumps(metadata))


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A draft to write, see :func:`atomic_write`; DataError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            yield draft
    except (OSError, safetensors.SafetensorError) as problem:
        raise DataError(
            f"the maps cannot be written ({getattr(problem, 'strerror', None) or problem})",
            expected="a writable folder with free space",
            hint="free some space or choose another folder with --out; what is finished is kept",
            where=path,
        ) from None
