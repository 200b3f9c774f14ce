"""Reads a whole pack and names what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

from muybridge.core.addresses import is_address, read_range
from muybridge.core.errors import DataError
from muybridge.core.packed import HEAD, pack_of
from muybridge.data.shards.pack_index import Row, read_index


def verify(
    place: str, begin: Callable[[int], None] | None = None, step: Callable[[], None] | None = None
) -> dict[str, str]:
    """Compare all that a pack holds with its checksums.

    Args:
        place: path of the folder, or address.
        begin: called with the number of recordings.
        step: called for each.

    Returns:
        What is wrong, by the name of the shard; empty where nothing is.

    Raises:
        DataError: the index cannot be read, is damaged, or belongs to another pack.
    """
    place = place.rstrip("/") if is_address(place) else str(Path(place).expanduser().resolve())
    pack = read_index(place)
    shards: dict[str, list[Row]] = {name: [] for name in pack.info.shards}
    for row in pack.rows.values():
        shards.setdefault(row.shard, []).append(row)
    if begin:
        begin(len(pack.rows))
    wrong: dict[str, str] = {}
    for name, rows in shards.items():
        problems = _shard_problems(f"{place}/{name}", pack.info.id, pack.info.shards.get(name))
        seen: set[int] = set()
        for row in sorted(rows, key=lambda row: row.offset):
            if not problems and row.error is None and row.offset not in seen:
                seen.add(row.offset)
                try:
                    pack.path(row).on_disk()
                except DataError as problem:
                    problems = f"{problem.problem} (recording {row.id})"
            if step:
                step()
        if problems:
            wrong[name] = problems
    return wrong


def _shard_problems(archive: str, pack: str, size: int | None) -> str:
    """What is wrong with a shard as a whole; empty where nothing is known to be."""
    if size is None:
        return "the description of the pack does not name it"
    try:
        if is_address(archive):
            head = read_range(archive, 0, min(HEAD, size))
        else:
            found = Path(archive).stat().st_size
            if found != size:
                return f"it has {found} bytes in place of {size}"
            with Path(archive).open("rb") as file:
                head = file.read(HEAD)
    except OSError as problem:
        return f"it cannot be read ({problem.strerror})"
    except DataError as problem:
        return problem.problem
    carried = pack_of(head)
    return "" if carried == pack else f"it belongs to another pack ({carried or 'unknown'})"
