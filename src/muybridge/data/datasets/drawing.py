"""Drawing recordings or groups by their names alone, so that others that are added later move hardly any."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from muybridge.core.rng import derive_seed
from muybridge.core.types import Record

MIN_TRAINING_GROUPS = 2
"""A group is drawn for validation only if at least this many remain for training."""


def draw_names(names: Collection[str], purpose: str, count: float, *, spare: int, part: int = 0) -> set[str]:
    """About ``count`` of the names, at least one unless it is zero; ``spare`` of them are never drawn.

    Another ``part`` draws the names that follow in the same order, from its beginning again after its end.
    """
    number = max(0, min(max(1, round(count)), len(names) - spare)) if count else 0
    ordered = sorted(names, key=lambda name: derive_seed(purpose, name))
    first = part * number
    return {ordered[index % len(ordered)] for index in range(first, first + number)}


def draw_per_class(
    records: Iterable[Record], rest: Iterable[Record], purpose: str, fraction: float, part: int = 0
) -> set[str]:
    """Ids of a share of the recordings of each class, drawn from the rest."""
    sizes = Counter(record.label for record in records)
    ids: dict[int, set[str]] = defaultdict(set)
    for record in rest:
        ids[record.label].add(record.id)
    drawn = (draw_names(names, purpose, fraction * sizes[label], spare=1, part=part) for label, names in ids.items())
    return set().union(*drawn)


def draw_val(
    records: Sequence[Record], rest: Sequence[Record], share: float, part: int = 0, val_groups: Collection[str] = ()
) -> set[str]:
    """Ids of the recordings of validation groups, or of a share of each class where there are no groups.

    Args:
        records: of the whole data set, of which the share is meant.
        rest: those that do not test, from which is drawn.
        share: of all groups, or of each class.
        part: which of such shares, from 0.
        val_groups: groups that validate in place of drawn ones.
    """
    if not any(record.group for record in records):
        return draw_per_class(records, rest, "val", share, part)
    count = share * len({record.group for record in records})
    groups = {record.group for record in rest}
    val = set(val_groups) or draw_names(groups, "val", count, spare=MIN_TRAINING_GROUPS, part=part)
    return {record.id for record in rest if record.group in val}
