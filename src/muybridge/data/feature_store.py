"""Features that frozen CNNs extract from every frame of a data set, computed once and stored on disk.

A store is a folder with a folder for each part of the model, ``appearance`` and ``motion`` say. In each lies
``store.json``, the stamp that says what made the maps, and ``ID.safetensors`` for each recording: the maps of all its
frames (of optical flow, all but the last), how many frames it has, and a fingerprint of its file. Every file appears
whole or not at all, so that a store that lacks recordings can be completed, and a recording that has changed is
noticed.

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
from muybridge.core.types import Record

FORMAT = 1
"""Of the files; a store of another format is refused."""

Stamp = Mapping[str, Any]
"""What made the maps, by name: numbers, words and lists, as JSON keeps them."""

Maps = Float[Tensor, "T D h w"]
Precision = Literal["float16", "float32"]

_COMPLETE = "complete it with `muybridge features RECIPE`"
_ELSEWHERE = "set the knob as it was, or make maps for this recipe in another folder with `muybridge features`"
_ANOTHER = "start the CNN from the weights that made them, or make maps for this recipe in another folder"
_PROBED = 2**16  # bytes at either end of a file that make its fingerprint


class PartStore:
    """The maps that one part of a model makes; :meth:`create` to write them, :meth:`open` to read.

    Attributes:
        folder: where they lie.
        stamp: what made them.
    """

    def __init__(self, folder: Path, stamp: Stamp) -> None:
        self.folder, self.stamp = folder, stamp

    @classmethod
    def create(cls, folder: Path, stamp: Stamp) -> "PartStore":
        """A new store, or one that exists and bears the same stamp.

        Raises:
            DataError: it bears another stamp, or cannot be written.
        """
        stamp = {"format": FORMAT} | _as_json(stamp)
        if (folder / "store.json").exists():
            return cls.open(folder, stamp)
        with _writing(folder / "store.json") as draft:
            draft.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        return cls(folder, stamp)

    @classmethod
    def open(cls, folder: Path, asked: Stamp) -> "PartStore":
        """A store that exists.

        Args:
            folder: where it lies.
            asked: what its stamp has to say; it may say more.

        Raises:
            DataError: there is none, it is damaged, or its stamp says something else.
        """
        try:
            stamp = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            made = stamp["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(
                "there is no feature store",
                expected="a folder with store.json in it",
                hint="make one with `muybridge features RECIPE`, or correct view.features",
                where=folder,
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise DataError(
                f"its stamp cannot be read ({problem})",
                expected="JSON with what made the maps",
                hint="delete the folder and make it again with `muybridge features RECIPE`",
                where=folder / "store.json",
            ) from None
        if made != FORMAT:
            raise DataError(
                f"a feature store of format {made}",
                expected=f"format {FORMAT}",
                hint="make it again with `muybridge features RECIPE` of this version",
                where=folder,
            )
        store = cls(folder, stamp)
        store.check(asked)
        return store

    def check(self, asked: Stamp) -> None:
        """Compare the stamp with what is asked for; DataError names what differs."""
        wanted = _as_json(asked)
        differ = [name for name, value in wanted.items() if self.stamp.get(name) != value]
        if differ:
            raise DataError(
                "maps made with other " + ", ".join(f"{name} ({self.stamp.get(name)})" for name in differ),
                expected=", ".join(f"{name} ({wanted[name]})" for name in differ),
                hint=_ANOTHER if differ == ["weights"] else _ELSEWHERE,
                where=self.folder,
            )

    def path(self, record: Record) -> Path:
        """Where the maps of a recording are kept, inside the folder whatever its id."""
        name = f"{record.id}.safetensors"
        inside = os.path.normpath(name)
        return self.folder / (quote(name, safe="") if inside.startswith((os.sep, "..")) else inside)

    def holds(self, record: Record) -> bool:
        """Whether the maps of a recording are here, made from the file as it is now."""
        try:
            self._read_header(record)
        except DataError:
            return False
        return True

    def write(self, record: Record, maps: Maps, frames: int) -> int:
        """Keep the maps of a recording of so many frames; the bytes they take.

        Raises:
            DataError: the file cannot be written, or 16 bits cannot hold a number among the maps.
        """
        kept = maps.to(getattr(torch, self.stamp["precision"])).cpu().contiguous()
        if not kept.isfinite().all():
            raise DataError(
                f"the maps of recording {record.id!r} reach {maps.abs().max():.3g}",
                expected=f"finite numbers that {self.stamp['precision']} can hold",
                hint="keep them with `--precision float32` in another folder, or check the CNN's weights",
                where=self.folder,
            )
        path = self.path(record)
        # One word of metadata: of several the order would be left to chance, and equal maps should be equal files.
        told = json.dumps({"source": fingerprint(record), "frames": frames})
        with _writing(path) as draft:
            safetensors.torch.save_file({"maps": kept}, draft, {"recording": told})
        return path.stat().st_size

    def count(self, record: Record) -> tuple[int, int]:
        """How many maps a recording has, and how many frames; see :meth:`read` for what is raised."""
        maps, frames, _ = self._read_header(record)
        return maps, frames

    def read(self, record: Record, numbers: Sequence[int]) -> Maps:
        """The maps of the frames with these numbers, in this order; what lies between is read once.

        Raises:
            DataError: the recording has no maps, the file is damaged, or was made from another recording.
        """
        count, _, file = self._read_header(record)
        first, last = min(numbers), max(numbers)
        assert 0 <= first <= last < count, f"maps {first} to {last} of {count}"
        stretch = file.get_slice("maps")[first : last + 1]
        return stretch if list(numbers) == list(range(first, last + 1)) else stretch[torch.tensor(numbers) - first]

    @cached_property
    def _sources(self) -> dict[str, str]:
        """The fingerprints of recordings, which this process takes once."""
        return {}

    def _read_header(self, record: Record) -> tuple[int, int, Any]:
        path = self.path(record)
        try:
            file = safetensors.safe_open(path, framework="pt")
            told, (maps, *_) = json.loads(file.metadata()["recording"]), file.get_slice("maps").get_shape()
            source, frames = told["source"], told["frames"]
        except FileNotFoundError:
            raise DataError("there are no maps of it", expected="its maps", hint=_COMPLETE, where=path) from None
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as problem:
            raise DataError(
                f"damaged maps ({problem})",
                expected="a whole safetensors file",
                hint=f"delete it and {_COMPLETE}",
                where=path,
            ) from None
        if record.id not in self._sources:
            self._sources[record.id] = fingerprint(record)
        if self._sources[record.id] != source:
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
        asked: for each part of the model, by its name, what its stamp has to say.
        gives: for each part, the argument that takes its maps.

    Raises:
        DataError: a part is missing or made otherwise.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Stamp], gives: Mapping[str, str]) -> None:
        self.folder = folder
        self.parts = {gives[name]: PartStore.open(folder / name, stamp) for name, stamp in asked.items()}

    def open(self, record: Record) -> StoredFrames:
        """The maps of a recording.

        Raises:
            DataError: there are none, or not of the recording as it is now.
        """
        return StoredFrames(record, self.parts)

    def check_complete(self, records: Sequence[Record]) -> None:
        """Refuse to begin what would soon end; DataError where recordings have no maps."""
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
    """What tells a recording from another: size, beginning and end of its file, or names and sizes in its folder.

    Raises:
        DataError: the recording is gone.
    """
    digest = hashlib.blake2b(b"backwards" if record.backwards else b"", digest_size=16)
    try:
        if record.path.is_dir():
            for name, size in sorted((entry.name, entry.stat().st_size) for entry in os.scandir(record.path)):
                digest.update(f"{name} {size}\n".encode())
        else:
            with record.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{size}\n".encode())
                file.seek(0)
                digest.update(file.read(_PROBED))
                file.seek(max(0, size - _PROBED))
                digest.update(file.read(_PROBED))
    except OSError as problem:
        raise DataError(
            f"the recording cannot be read ({problem.strerror})",
            expected="the file that the index names",
            hint="check that the data set is in its place",
            where=record.path,
        ) from None
    return digest.hexdigest()


def _as_json(stamp: Stamp) -> dict[str, Any]:
    """As it comes back from a file."""
    return json.loads(json.dumps(stamp))


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A draft to write, see :func:`whole_file`; DataError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            yield draft
    except (OSError, safetensors.SafetensorError) as problem:
        raise DataError(
            f"the maps cannot be written ({getattr(problem, 'strerror', None) or problem})",
            expected="a folder with room that may be written",
            hint="free some space or choose another folder with --out; what is finished is kept",
            where=path,
        ) from None
