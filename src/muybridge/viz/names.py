"""File names for what is drawn of a recording, such that no recording overwrites the files of another."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from muybridge.core.types import Record

_LONGEST = 180  # bytes; file systems allow 255, and suffixes are added
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')  # in file names of any common system
_OURS = re.compile(r"(curves|confusion-\w+|.*-attention)", re.IGNORECASE)  # files that are not of a recording's name


def record_stem(record: Record, records: Iterable[Record]) -> str:
    """The name, without a suffix, of the files about one record of a data set.

    It is the id with ``-`` for ``/``, and without the suffix of a user's own file. Where another record would get the
    same name, a checksum of the id is added.

    Args:
        record: what is drawn.
        records: all records of the data set.
    """
    stem = _flat(record)
    others = (_flat(other).casefold() for other in records if other.id != record.id)
    return _marked(stem, record.id) if _OURS.fullmatch(stem) or stem.casefold() in others else _short(stem, record.id)


def file_stem(path: Path) -> str:
    """The name of the files about a recording outside the data set: its own, and a checksum of where it is."""
    return _marked(_UNSAFE.sub("-", path.stem), str(path.absolute()))


def video_stem(path: Path, folder: Path) -> str:
    """The name of the files about a video in a folder of tubes: the shortest that no other video has there.

    It is the name of the file, with the names of its folders before it where it needs them, then with its suffix. A
    video that has files in the folder from before keeps their name.

    Args:
        path: the video.
        folder: holds ``NAME.json`` for each video that was localized, see :func:`~muybridge.media.tubes.write_tubes`.
    """
    video = str(path.absolute())
    for stem in _candidates(path.absolute()):
        content = folder / f"{stem}.json"
        if not content.exists() or _video_of(content) == video:
            return stem
    return _marked(_UNSAFE.sub("-", path.stem), video)


def _candidates(path: Path) -> Iterator[str]:
    folders = list(path.parent.parts[1:])
    for name in (path.stem, path.name):
        for count in range(len(folders) + 1):
            parts = [*folders[len(folders) - count :], name]
            yield _short(_UNSAFE.sub("-", "-".join(parts)), str(path))


def _video_of(content: Path) -> str | None:
    """The one video of a file of tubes; None if there are several, or it is another file."""
    try:
        (video,) = json.loads(content.read_text(encoding="utf-8"))["frames"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return video


def _flat(record: Record) -> str:
    name = record.id.removesuffix(record.path.suffix) if record.path.is_file() else record.id
    return _UNSAFE.sub("-", name)


def _short(stem: str, identity: str) -> str:
    return stem if len(stem.encode(errors="replace")) <= _LONGEST else _marked(stem, identity)


def _marked(stem: str, identity: str) -> str:
    """The stem with a checksum of an identity, cut to the length that file systems allow."""
    checksum = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:8]
    short = stem.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return f"{short}-{checksum}"
