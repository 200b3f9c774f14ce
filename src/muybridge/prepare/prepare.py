"""From the archives of a benchmark to videos that can be trained on: unpacked, counted, indexed, and copied smaller."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, RecipeError
from muybridge.data.datasets.base import Benchmark
from muybridge.data.datasets.official import OfficialVideos
from muybridge.prepare.foreign import BY_HAND
from muybridge.prepare.inventory import Inventory, list_entries, take_inventory
from muybridge.prepare.reencode import Reencoded, copy_lists, reencode
from muybridge.prepare.unpack import find_archives, unpack
from muybridge.prepare.video_index import check_extra, index_file, index_videos

Begin = Callable[[str], Callable[[int, int], None]]
"""Called with the name of a task; gives what is called with how many of its steps are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A benchmark that was prepared.

    Attributes:
        root: its folder.
        unpacked: the archives that were unpacked.
        foreign: rar and 7z archives that cannot be read here, as libarchive is missing or they are in volumes.
        index: the file of the index.
        videos: how many there are.
        probed: how many of these were not in the index.
        inventory: what is expected, found, missing and broken.
        reencoded: what became of the copies; None where none were asked for.
    """

    root: Path
    unpacked: tuple[Path, ...]
    foreign: tuple[Path, ...]
    index: Path
    videos: int
    probed: int
    inventory: Inventory
    reencoded: Reencoded | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON types."""
        copies = self.reencoded and {
            "written": self.reencoded.written,
            "existing": self.reencoded.existing,
            "failed": {str(path): problem for path, problem in self.reencoded.failed},
        }
        return {
            "root": str(self.root),
            "unpacked": [str(path) for path in self.unpacked],
            "not_unpacked": [str(path) for path in self.foreign],
            "index": str(self.index),
            "videos": self.videos,
            "probed": self.probed,
            **self.inventory.as_dict(),
            **({"reencoded": copies} if copies else {}),
        }


def _nowhere(_: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def prepare(
    data: Benchmark,
    *,
    unpack_archives: bool = True,
    short_side: int | None = None,
    out: Path | None = None,
    workers: int | None = None,
    begin: Begin = _nowhere,
) -> Prepared:
    """Unpack the archives of a benchmark, compare it with its official lists, index its videos, and copy them smaller.

    What was done before is not done again; a run that was killed goes on where it was.

    Args:
        data: the benchmark, of videos.
        unpack_archives: whether archives are unpacked.
        short_side: pixels of the shorter side of the copies; None makes none.
        out: the folder of the copies, see :func:`copies_of`.
        workers: processes; None takes one for each core.
        begin: where progress is shown.

    Raises:
        DataError: an archive is unsafe or damaged, a list cannot be read, or a folder cannot be written.
        MissingExtraError: pyarrow is not installed.
        RecipeError: the benchmark is of skeletons, or the copies would be among the videos.
    """
    check_extra()
    root = data.folder()
    target = out or (copies_of(root, short_side) if short_side else None)
    _check(data, root, target)
    unpacked, foreign = _unpack_all(root, begin) if unpack_archives else ((), ())
    try:
        entries = list_entries(data)
    except DataError:
        if foreign:
            raise _not_unpacked(foreign[0]) from None
        raise
    paths = list(dict.fromkeys(entry.path for entry in entries if entry.path))
    fps = data.fps if isinstance(data, OfficialVideos) else 30.0
    videos, probed = index_videos(root, paths, fps=fps, workers=workers, progress=begin("indexing videos"))
    inventory = take_inventory(data, entries, videos)
    copies = None
    if short_side and target:
        sound = [path for path in paths if path not in inventory.broken]
        progress = begin("copying videos")
        copies = reencode(root, sound, target, short_side=short_side, fps=fps, workers=workers, progress=progress)
        copy_lists(root, target, leave_out=root / data.videos if _has_flat_folder(data) else None)
    return Prepared(root, unpacked, foreign, index_file(root), len(paths), probed, inventory, copies)


def copies_of(root: Path, short_side: int) -> Path:
    """The folder of copies with such a short side: beside the original, ``something_v2_256``."""
    return root.parent / f"{root.resolve().name}_{short_side}"


def _check(data: Benchmark, root: Path, out: Path | None) -> None:
    if not isinstance(data.holds(), ClipData):
        raise RecipeError(
            f"{type(data).__name__} holds skeletons",
            expected="a benchmark of videos",
            hint="use `muybridge doctor` to examine skeletons",
        )
    if out is not None and (out.resolve() == root.resolve() or out.resolve().is_relative_to(root.resolve())):
        raise RecipeError(
            "the copies would lie in the folder of the data set",
            expected="another folder, as they would be taken for its videos",
            hint="choose one with --out",
            where=out,
        )


def _has_flat_folder(data: Benchmark) -> TypeGuard[OfficialVideos]:
    """Whether all videos lie in a folder of their own, which may have millions of images and no lists."""
    return isinstance(data, OfficialVideos) and not data.nested


def _unpack_all(root: Path, begin: Begin) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Unpack the archives, and those that were in them; returns these, and those that cannot be unpacked."""
    unpacked: list[Path] = []
    while True:
        archives, foreign = find_archives(root)
        if not archives:
            return tuple(unpacked), tuple(foreign)
        for archive in archives:
            unpack(archive, begin(f"unpacking {archive.path.name}"))
            unpacked.append(archive.path)


def _not_unpacked(archive: Path) -> DataError:
    return DataError(
        "the archive cannot be read here, and the data set is not complete without it",
        expected="zip or tar files, rar or 7z files in one volume and libarchive, or what is in it",
        hint=BY_HAND.format(name=archive.name),
        where=archive,
    )
