"""Writes a data set as shards: each appears whole, and the same command goes on after any interruption."""

import errno
import functools
import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, lock_folder
from muybridge.core.packed import PACK_FILE, PackedPath, checksum_of, shard_comment
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence, span_text
from muybridge.data.datasets.base import DatasetConfig, Split
from muybridge.data.datasets.pack import Pack
from muybridge.data.datasets.playback import Playback
from muybridge.data.joint_settings import JointSettings
from muybridge.data.shards.pack_index import (
    FORMAT,
    INDEX_FILE,
    UNFINISHED_FILE,
    Contents,
    PackIndex,
    PackInfo,
    Row,
    parse_rows,
    read_index,
)
from muybridge.data.shards.skeletons import SKELETON_SUFFIX, pack_skeleton
from muybridge.media.video import Video

SPLITS: tuple[Split, ...] = ("train", "val", "test")

SHARD_MIB = 256
"""Size of a shard in MiB, from which on the next one is begun."""

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class PackSummary:
    """What was packed.

    Attributes:
        recordings: in the pack.
        shards: how many.
        written: shards that were written now; the others were there.
        bytes: of all shards.
        failed: recordings that cannot be read.
        examples: the first of them, with the reason.
    """

    recordings: int
    shards: int
    written: int
    bytes: int
    failed: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    """A file, or a skeleton, and the recordings that are parts of it."""

    key: str
    split: Split
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a pack will hold: the description without shards and index, the files in their order, ids in theirs."""

    info: PackInfo
    samples: tuple[_Sample, ...]
    splits: Mapping[str, Split]


def pack(
    data: DatasetConfig,
    out: Path,
    *,
    shard_mib: float = SHARD_MIB,
    strict: bool = False,
    begin: Callable[[int], None] | None = None,
    step: Callable[[], None] | None = None,
) -> PackSummary:
    """Write a data set as a pack, or go on with one that was begun.

    The files of videos are copied as they are, so that the frames stay the same; skeletons are kept as they are opened.
    Recordings lie in an order without classes, the same each time, and the bytes of a pack depend on its content alone.

    Args:
        data: any data set but a pack.
        out: folder of the pack; new, empty, or of a pack of the same data.
        shard_mib: size of a shard in MiB, from which on the next one is begun.
        strict: refuse recordings that cannot be read, in place of keeping their errors.
        begin: called with the number of files.
        step: called for each file.

    Raises:
        DataError: the data set cannot be packed or read, changes meanwhile, the folder is another's or cannot be
            written.
    """
    if isinstance(data, Pack | Playback):
        raise DataError(
            f"the data set {data.name!r} is itself made of another",
            expected="the data set that it is made of",
            hint="pack that one; data.source of playback may be a pack",
        )
    data = data.resolved()
    _check_place(data, out)
    with _written(out):
        out.mkdir(parents=True, exist_ok=True)
    taken = DataError(
        "another process packs into this folder", expected="one at a time", hint="wait for it, or stop it", where=out
    )
    with lock_folder(out, taken):
        plan = _plan(data, shard_mib)
        if begin:
            begin(len(plan.samples))
        finished = _continue(out, plan)
        if finished is not None:
            return _summary(finished.info, list(finished.rows.values()), 0)
        writer = _Writer(data, out, plan, int(shard_mib * 2**20), strict, step or (lambda: None))
        written = writer.write_missing()
        return _finish(out, plan, written)


def contents_of(data: DatasetConfig) -> Contents:
    """What a data set contains."""
    holds, mirror, reverse = data.holds(), data.mirror(), data.reverse()
    kind: dict[str, Any] = {"channels": holds.channels} if isinstance(holds, ClipData) else {}
    if isinstance(holds, SkeletonData):
        kind = {"layout": holds.layout.name, "people": holds.people, "coordinates": holds.coordinates}
        kind["joints"] = None if holds.layout.name in LAYOUTS else JointSettings.of(holds.layout)
    return Contents(
        labels=data.labels(),
        mirror=None if mirror is None else tuple(sorted(mirror.items())),
        reverse=None if reverse is None else tuple(sorted(reverse.items())),
        superclasses=data.superclasses(),
        multi_label=data.multi_label(),
        **kind,
    )


def _check_place(data: DatasetConfig, out: Path) -> None:
    """Refuse a folder of other files, and one among the recordings, where it would become a class."""
    root = getattr(data, "root", None)
    if isinstance(root, Path) and root.is_dir() and out.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"it lies in the folder of the recordings, {root}",
            expected="another place",
            hint="choose another --out",
            where=out,
        )
    if out.exists() and not out.is_dir():
        raise DataError("it is a file", expected="a folder", hint="choose another --out", where=out)
    known = any((out / name).is_file() for name in (PACK_FILE, UNFINISHED_FILE))
    if out.is_dir() and not known and any(out.iterdir()):
        raise DataError(
            "the folder has other files in it",
            expected="a new or empty folder, or the pack that is to be continued",
            hint="choose another --out",
            where=out,
        )


def _plan(data: DatasetConfig, shard_mib: float) -> _Plan:
    """All recordings of a data set in the order in which they are packed."""
    records = {split: _records(data, split) for split in SPLITS}
    splits: dict[str, Split] = {record.id: split for split in SPLITS for record in records[split]}
    groups: dict[tuple[Path, str], list[Record]] = {}
    each = isinstance(data.holds(), SkeletonData)
    for record in itertools.chain.from_iterable(records.values()):
        groups.setdefault((record.path, record.id if each else ""), []).append(record)
    order = sorted(groups.values(), key=lambda group: (SPLITS.index(splits[group[0].id]), _shuffled(group[0].id)))
    samples = tuple(_Sample(f"{n:09d}", splits[group[0].id], tuple(group)) for n, group in enumerate(order))
    name: str = data.name  # pyright: ignore[reportAttributeAccessIssue] - every member of the union has one
    info = PackInfo(source=name, split=data.describe_split(), contents=contents_of(data))
    id_ = _identifier(info, samples, splits, shard_mib)
    return _Plan(info.model_copy(update={"id": id_}), samples, splits)


def _records(data: DatasetConfig, split: Split) -> tuple[Record, ...]:
    """The recordings of a split; none where a data set has no test part."""
    try:
        return data.index(split).records
    except DataError:
        if split != "test":
            raise
        data.index("train")
        return ()


def _shuffled(id_: str) -> bytes:
    """An order that has nothing to do with classes and is the same each time."""
    return hashlib.blake2b(id_.encode(errors="surrogateescape"), digest_size=16).digest()


def _identifier(info: PackInfo, samples: Sequence[_Sample], splits: Mapping[str, Split], shard_mib: float) -> str:
    """By which another pack is told: of the description, and of all recordings with the sizes of their files."""
    digest = hashlib.blake2b(json.dumps([FORMAT, shard_mib, info.as_json()]).encode(), digest_size=16)
    for sample in samples:
        path = sample.records[0].path
        size = path.stat().st_size if path.is_file() else 0
        for each in sample.records:
            facts = (each.id, splits[each.id], each.classes, each.group, span_text(each.span), each.backwards, size)
            digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def _continue(out: Path, plan: _Plan) -> PackIndex | None:
    """Prepare the folder: keep the whole shards of the same pack, refuse another. A pack that is whole is returned."""
    unfinished = out / UNFINISHED_FILE
    finished = read_index(str(out)) if (out / PACK_FILE).is_file() else None
    begun = finished.info.id if finished else _begun_id(unfinished) if unfinished.is_file() else plan.info.id
    if begun != plan.info.id:
        raise DataError(
            f"the folder has {'a pack' if finished else 'an unfinished pack'} of other data or other settings",
            expected="the same recordings, classes, split and size of shards as when it was begun",
            hint="choose another --out, or delete the folder",
            where=out,
        )
    with _written(out):
        if finished is not None:
            if all(_has_size(out / name, size) for name, size in finished.info.shards.items()):
                return finished
            _restore_parts(out, finished)
        with atomic_write(unfinished) as draft:
            draft.write_text(json.dumps({"format": FORMAT, "id": plan.info.id}) + "\n", encoding="utf-8")
        (out / PACK_FILE).unlink(missing_ok=True)
    return None


def _has_size(shard: Path, size: int) -> bool:
    return shard.is_file() and shard.stat().st_size == size


def _begun_id(unfinished: Path) -> str:
    try:
        return str(json.loads(unfinished.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _restore_parts(out: Path, finished: PackIndex) -> None:
    """The index of each shard that is still whole, from the index of all, so that the others are written again."""
    by_shard: dict[str, list[Row]] = {name: [] for name in finished.info.shards}
    for row in finished.rows.values():
        by_shard[row.shard].append(row)
    for name, size in finished.info.shards.items():
        if _has_size(out / name, size):
            _write_rows(_part_file(out, name), by_shard[name])


class _Writer:
    """Writes the shards of a pack that are not there.

    Args:
        data: the data set.
        out: folder of the pack.
        plan: what it will hold.
        shard_bytes: size from which on the next shard is begun.
        strict: refuse recordings that cannot be read.
        step: called for each file.
    """

    def __init__(
        self, data: DatasetConfig, out: Path, plan: _Plan, shard_bytes: int, strict: bool, step: Callable[[], None]
    ) -> None:
        self.data, self.out, self.plan, self.shard_bytes = data, out, plan, shard_bytes
        self.strict, self.step = strict, step

    def write_missing(self) -> int:
        """Write all shards that are not whole; how many these were."""
        written = 0
        for split in SPLITS:
            samples = [sample for sample in self.plan.samples if sample.split == split]
            first, number = 0, 0
            while first < len(samples):
                name = f"{split}-{number:06d}.tar"
                keys = _keys_of(self.out, name)
                if keys is None:
                    keys = self._write(name, samples[first:])
                    written += 1
                else:
                    for _ in keys:
                        self.step()
                first, number = first + len(keys), number + 1
        return written

    def _write(self, name: str, samples: Sequence[_Sample]) -> set[str]:
        """Write the next shard from the first of the samples that are left; the keys of those in it."""
        rows: list[Row] = []
        shard = self.out / name
        with _written(shard), atomic_write(shard) as draft:
            with tarfile.open(
                draft, "w", format=tarfile.PAX_FORMAT, pax_headers=shard_comment(self.plan.info.id)
            ) as archive:
                for sample in samples:
                    rows += self._add(archive, draft, name, sample)
                    self.step()
                    if archive.offset >= self.shard_bytes:
                        break
            # It counts from when the shard has its final name.
            _write_rows(_part_file(self.out, name), rows)
        return {row.key for row in rows}

    def _add(self, archive: tarfile.TarFile, draft: Path, shard: str, sample: _Sample) -> list[Row]:
        """Add a file with what is known of it; the rows of its recordings."""
        rows = [
            Row(
                record.id,
                sample.key,
                "",
                shard,
                0,
                0,
                "",
                self.plan.splits[record.id],
                record.classes,
                record.group,
            )
            for record in sample.records
        ]
        opened = [self._open(record) for record in sample.records]
        for number, result in enumerate(opened):
            if isinstance(result, DataError):
                rows[number] = replace(rows[number], error=(result.problem, result.expected, result.hint))
            elif isinstance(result, Video):
                rows[number] = replace(rows[number], part=result.part)
        good = next((result for result in opened if not isinstance(result, DataError)), None)
        if good is None:
            return rows
        suffix, start, length = _add_recording(archive, sample.key, good)
        for result in opened:
            if isinstance(result, Video):
                result.close()
        archive.fileobj.flush()  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        with PackedPath(str(draft), sample.key, start, length).open("rb") as packed:
            checksum = checksum_of(packed)
        self._describe(archive, sample)
        placed = {"suffix": suffix, "offset": start, "length": length, "checksum": checksum}
        return [row if row.error else replace(row, **placed) for row in rows]

    def _open(self, record: Record) -> SkeletonSequence | Video | DataError:
        try:
            return self.data.open(record)
        except DataError as problem:
            if self.strict:
                raise DataError(
                    f"recording {record.id!r}: {problem.problem}",
                    expected=problem.expected,
                    hint=problem.hint,
                    where=problem.where,
                ) from None
            return problem

    def _describe(self, archive: tarfile.TarFile, sample: _Sample) -> None:
        """Members by which users of WebDataset know what a file is: ``json``, and ``cls`` where there is one class."""
        labels = self.plan.info.contents.labels
        facts = [
            {
                "id": record.id,
                "label": record.label_text(labels) if record.label >= 0 else "",
                "labels": [labels[label] for label in record.labels],
                "split": self.plan.splits[record.id],
                "group": record.group,
                "span": record.span,
            }
            for record in sample.records
        ]
        facts = [{name: value for name, value in fact.items() if value or name == "label"} for fact in facts]
        tree = facts[0] if len(facts) == 1 else {"recordings": facts}
        _add_bytes(archive, f"{sample.key}.json", json.dumps(tree, ensure_ascii=False).encode(errors="replace"))
        if len(facts) == 1 and not sample.records[0].labels:
            _add_bytes(archive, f"{sample.key}.cls", str(sample.records[0].label).encode())


def _add_recording(archive: tarfile.TarFile, key: str, recording: SkeletonSequence | Video) -> tuple[str, int, int]:
    """Add the file, or the images, of a recording: suffix, offset of the first byte, and how many there are."""
    if isinstance(recording, SkeletonSequence):
        content = pack_skeleton(recording)
        start = _add_bytes(archive, f"{key}{SKELETON_SUFFIX}", content)
        return SKELETON_SUFFIX, start, len(content)
    if recording.path.is_dir():
        begin = archive.offset
        for number, image in enumerate(recording.files):
            _add_file(archive, f"{key}.{number:06d}{image.suffix.lower()}", image)
        return "", begin, archive.offset - begin
    suffix = recording.path.suffix.lower()
    start, length = _add_file(archive, f"{key}{suffix}", recording.path)
    return suffix, start, length


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a member; the offset of its content."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    return archive.offset - -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> tuple[int, int]:
    """Add a copy of a file; offset and length of its content."""
    changes = functools.partial(
        DataError, expected="a file that stays as it is", hint="give the same command again", where=path
    )
    try:
        with path.open("rb") as file:
            before = path.stat()
            content = _Readable(file.read)
            member = tarfile.TarInfo(name)
            member.size = before.st_size
            archive.addfile(member, content)  # pyright: ignore[reportArgumentType] - all that it calls is read
            after = path.stat()
    except _ReadError as problem:
        raise DataError(
            f"the file cannot be read ({problem})", expected="a file", hint="check the disk it is on", where=path
        ) from None
    if content.short or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise changes("the file changes while it is packed")
    return archive.offset - -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, member.size


class _ReadError(Exception):
    """A source cannot be read, which is no fault of the pack's disk."""


class _Readable:
    """What ``tarfile`` copies a file from; a file that became shorter is filled up, and :attr:`short` tells it."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self.short = read, False

    def read(self, count: int) -> bytes:
        try:
            content = self._read(count)
        except OSError as problem:
            raise _ReadError(problem.strerror or problem) from None
        if len(content) < count:
            self.short = True
            content += bytes(count - len(content))
        return content


def _part_file(out: Path, shard: str) -> Path:
    """The index of one shard, until there is the index of all."""
    return out / f"{shard}.{INDEX_FILE}"


def _keys_of(out: Path, shard: str) -> set[str] | None:
    """The keys in a shard that is whole; None where it is not."""
    try:
        rows = parse_rows(_part_file(out, shard).read_bytes().splitlines())
        return {row.key for row in rows} if (out / shard).is_file() and rows else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_rows(file: Path, rows: Sequence[Row]) -> str:
    """Write an index; its checksum."""
    content = b"".join(json.dumps(row.as_json()).encode() + b"\n" for row in rows)
    with atomic_write(file) as draft:
        draft.write_bytes(content)
    return checksum_of(content)


def _finish(out: Path, plan: _Plan, written: int) -> PackSummary:
    """The index of all shards in the order of the data set, and the description, which makes the folder a pack."""
    parts = sorted(out.glob(f"*.tar.{INDEX_FILE}"), key=lambda path: path.name)
    rows = {row.id: row for part in parts for row in parse_rows(part.read_bytes().splitlines())}
    rows = {id_: rows[id_] for id_ in plan.splits}
    names = dict.fromkeys(row.shard for row in sorted(rows.values(), key=lambda row: row.key))
    with _written(out):
        sizes = {name: (out / name).stat().st_size for name in names}
        checksum = _write_rows(out / INDEX_FILE, list(rows.values()))
        info = plan.info.model_copy(update={"shards": sizes, "index": checksum})
        with atomic_write(out / PACK_FILE) as draft:
            draft.write_text(info.as_json(), encoding="utf-8")
        for file in (*parts, out / UNFINISHED_FILE):
            file.unlink(missing_ok=True)
    return _summary(info, list(rows.values()), written)


def _summary(info: PackInfo, rows: Sequence[Row], written: int) -> PackSummary:
    failed = [(row.id, row.error[0]) for row in rows if row.error]
    size = sum(info.shards.values())
    return PackSummary(len(rows), len(info.shards), written, size, len(failed), tuple(failed[:_EXAMPLES]))


@contextmanager
def _written(where: Path) -> Iterator[None]:
    """A disk that is full, or may not be written, as a DataError that says how to go on."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"the pack cannot be written ({problem.strerror or problem})",
            expected="a folder that can be written, with room for all recordings",
            hint="make room and give the same command again, which goes on" if full else "choose another --out",
            where=where,
        ) from None
