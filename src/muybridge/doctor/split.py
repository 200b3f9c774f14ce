"""Faults of the split and of the classes: copies and people on both sides, few recordings, names that are one name."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from muybridge.baseline.near_duplicates import MAX_COMPARED, find_near_duplicates
from muybridge.core.contracts import Holds
from muybridge.core.types import Record
from muybridge.data.datasets.base import Split
from muybridge.data.summary import equal_recordings
from muybridge.doctor.findings import Finding, Item, Level, finding_of, pair
from muybridge.doctor.observe import Observed

IMBALANCE = 10
"""Recordings of the largest class for each of the smallest, from which on classes are unbalanced."""

_PLACES: dict[str, int] = {"train": 0, "val": 1, "test": 2}


def check_duplicates(records: Sequence[tuple[Split, Record]], labels: Sequence[str]) -> list[Finding]:
    """Findings about recordings with equal content, by comparing files."""
    places: dict[Path, list[tuple[str, Record]]] = {}
    for split, record in records:
        places.setdefault(record.path, []).append((split, record))
    across, conflicts, repeated = [], [], []
    copies: dict[str, list[tuple[str, Record]]] = {}  # by the first of them
    for first, second in equal_recordings(places):
        copies.setdefault(first[1].id, [first]).append(second)
        if first[1].label != second[1].label:
            names = [labels[placed[1].label] for placed in (first, second)]
            conflicts.append(pair(first[1], second[1], f"{names[0]}, and {names[1]}"))
        elif first[0] != second[0]:
            across.append(pair(first[1], second[1], f"{first[0]}, and {second[0]}"))
        else:
            repeated.append(pair(first[1], second[1], f"both in {first[0]}"))
    remove: dict[str, list[str]] = {"several parts": [], "two classes": [], "one part": []}
    for same in copies.values():
        kind, superfluous = _superfluous(same)
        remove[kind] += superfluous
    return [
        *finding_of("the same recording in several parts", "error", *_LEAK, across, remove["several parts"]),
        *finding_of("the same recording in two classes", "error", *_CONFLICT, conflicts, remove["two classes"]),
        *finding_of("repeated recordings", "warning", *_REPEATED, repeated, remove["one part"]),
    ]


def _superfluous(same: Sequence[tuple[str, Record]]) -> tuple[str, list[str]]:
    """What is wrong with equal recordings, and the ids of those to leave out: all, of two classes; else all but one."""
    if len({record.label for _, record in same}) > 1:
        return "two classes", [record.id for _, record in same]
    kept = max(same, key=lambda placed: _PLACES[placed[0]])  # the test stays
    others = [record.id for _, record in same if record.id != kept[1].id]
    return "one part" if len({part for part, _ in same}) == 1 else "several parts", others


def check_near_duplicates(observed: Sequence[Observed], holds: Holds, known: Sequence[Finding]) -> list[Finding]:
    """Findings about recordings that look or move alike: re-encoded, scaled, mirrored, cut, or of one scene.

    Args:
        observed: the recordings.
        holds: what kind they are.
        known: findings about equal files, which are not repeated.
    """
    seen = [one for one in observed if one.described is not None]
    described = [one.described for one in seen if one.described is not None]
    if not 2 <= len(seen) <= MAX_COMPARED:
        limit = f"recordings were not compared by what they show, as there are more than {MAX_COMPARED}"
        return [Finding("near-duplicates", "note", limit, "compare parts of the data set")] if seen[2:] else []
    found = find_near_duplicates(described, np.array([one.record.label for one in seen]), holds)
    told = {frozenset(each.ids) for finding in known for each in finding.items}
    first_of = {each.ids[1]: each.ids[0] for finding in known for each in finding.items if len(each.ids) == 2}
    copies: dict[str, list[Item]] = {"error": [], "warning": []}
    inside, scenes, remove = [], [], []
    for pairs, kind in ((found.copies, "copies"), (found.pieces, "pieces"), (found.scenes, "scenes")):
        for a, b in pairs.tolist():
            first, second = sorted((seen[a], seen[b]), key=lambda one: _PLACES[one.split])
            are_equal = len({first_of.get(one.record.id, one.record.id) for one in (first, second)}) == 1
            told_before = frozenset((first.record.id, second.record.id)) in told
            if told_before or are_equal or first.record.path == second.record.path:
                continue
            told.add(frozenset((first.record.id, second.record.id)))
            where = f"{first.split}, and {second.split}"
            if kind == "scenes":
                scenes += [pair(first.record, second.record, where)] if first.split != second.split else []
            elif first.split != second.split:
                apart = _are_apart(first.record, second.record)
                copies["error" if apart else "warning"].append(pair(first.record, second.record, where))
                remove += [first.record.id] if apart else []
            elif kind == "copies" and _are_apart(first.record, second.record):
                inside.append(pair(first.record, second.record, f"both in {first.split}"))
    return [
        *finding_of("near-duplicates in several parts", "error", *_NEAR, copies["error"], remove),
        *finding_of("very similar recordings in several parts", "warning", *_SIMILAR, copies["warning"], []),
        *finding_of("near-duplicates in one part", "warning", *_NEAR_INSIDE, inside, []),
        *finding_of("one scene in several parts", "warning", *_SCENE, scenes, []),
    ]


def _are_apart(first: Record, second: Record) -> bool:
    """Whether two recordings cannot be two takes of one person doing one action, which may look nearly the same."""
    return first.label != second.label or bool(first.group and second.group and first.group != second.group)


def check_groups(records: Sequence[tuple[Split, Record]], *, official: bool) -> list[Finding]:
    """Findings about people or sources that are on both sides of the split.

    Args:
        records: with their parts.
        official: whether the split is published, so that it is not the user's to change.
    """
    members: defaultdict[str, dict[Split, list[Record]]] = defaultdict(dict)
    for split, record in records:
        if record.group:
            members[record.group].setdefault(split, []).append(record)
    if not members:
        if official:
            return []
        problem = "no person or source is known, so the same one may be in several parts of the split"
        return [
            Finding("no groups", "note", problem, "say who is who with --group REGEX, or a table (--group FILE.csv)")
        ]
    shared = {group: parts for group, parts in members.items() if len(parts) > 1}
    items, remove = [], []
    for group, parts in sorted(shared.items()):
        counts = ", ".join(f"{len(part)} in {split}" for split, part in parts.items())
        first = [part[0] for part in parts.values()]
        items.append(
            Item(tuple(one.id for one in first), tuple(one.path for one in first), f"{group}: {counts} recordings")
        )
        last = max(parts, key=_PLACES.__getitem__)
        remove += [record.id for split, part in parts.items() if split != last for record in part]
    return finding_of("one person or source in several parts", "note" if official else "error", *_GROUP, items, remove)


def check_classes(records: Sequence[tuple[Split, Record]], labels: Sequence[str]) -> list[Finding]:
    """Findings about classes with few recordings or none, unbalanced ones, and names that are probably one class."""
    counts = {part: Counter(record.label for split, record in records if split == part) for part in _PLACES}
    findings = []
    missed: tuple[tuple[Split, Level, str], ...] = (
        ("train", "error", "nothing can be learned about these classes"),
        ("test", "warning", "the test says nothing about these classes"),
    )
    for part, level, problem in missed:
        missing = [name for label, name in enumerate(labels) if not counts[part][label]]
        if missing and counts[part]:
            items = tuple(Item((), (), name) for name in missing)
            cure = f"move or add recordings to the part {part}, or leave the classes out"
            findings.append(Finding(f"classes without {part} recordings", level, problem, cure, items))
    trained = {name: counts["train"][label] for label, name in enumerate(labels) if counts["train"][label]}
    if trained and max(trained.values()) >= IMBALANCE * min(trained.values()):
        few, many = min(trained, key=trained.__getitem__), max(trained, key=trained.__getitem__)
        items = (Item((), (), f"{few}: {trained[few]}"), Item((), (), f"{many}: {trained[many]}"))
        problem = f"one class has {trained[many] / trained[few]:.0f} times as many training recordings as another"
        cure = "record more of the small classes, or merge them; judge by the mean accuracy of the classes"
        findings.append(Finding("unbalanced classes", "warning", problem, cure, items))
    if alike := similar_names(labels):
        items = tuple(Item((), (), f"{first!r} and {second!r}") for first, second in alike)
        problem = "these names seem to mean one class"
        findings.append(Finding("similar class names", "warning", problem, "merge them, or rename one", items))
    return findings


def similar_names(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of class names that differ in spaces, plural, the form of the verb or a letter only."""
    words = {name: _words(name) for name in labels}
    stems = {name: "".join(map(_stem, words[name])) for name in labels}
    return [
        (first, second)
        for first, second in combinations(labels, 2)
        if stems[first] == stems[second] or _one_letter_apart(words[first], words[second])
    ]


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case and without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[^\w]|_", " ", plain)
    return tuple(spaced.casefold().split())


def _stem(word: str) -> str:
    """A word without an ending of number or tense, so that ``jumps`` and ``jumping`` are alike."""
    for ending in ("ing", "es", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem[:-1] if ending in ("ing", "ed") and len(stem) > 3 and stem[-1] == stem[-2] != "l" else stem
    return word


def _one_letter_apart(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether a single long word differs, by a letter that is missing or exchanged with the next."""
    if len(one) != len(other):
        return False
    differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    if len(differing) != 1:
        return False
    first, second = differing[0]
    short, long = sorted((first, second), key=len)
    if len(short) < 6 or re.search(r"\d", long):
        return False
    if len(short) == len(long):
        at = next(index for index, (a, b) in enumerate(zip(short, long, strict=True)) if a != b)
        return short[:at] + short[at : at + 2][::-1] + short[at + 2 :] == long
    return any(long[:index] + long[index + 1 :] == short for index in range(len(long)))


_LEAK = (
    "the test is too easy, as training has seen what it tests on",
    "keep each recording in one part; --fix leaves out those of training",
)
_CONFLICT = ("one recording has two labels", "leave out the one that is wrong; --fix leaves out both")
_REPEATED = ("recordings are there twice in one part and count twice", "leave one out, as --fix does")
_NEAR = (
    "recordings show the same, re-encoded, scaled, mirrored or cut, on both sides of the split",
    "keep what comes from one source in one part (--group); --fix leaves out those of training",
)
_SIMILAR = (
    "recordings on both sides show nearly the same: copies, or several takes of one person",
    "if they are copies, leave one out; otherwise keep what comes from one person or source in one part (--group)",
)
_NEAR_INSIDE = (
    "recordings of different people or classes show the same, perhaps re-encoded, mirrored or cut",
    "leave one of them out",
)
_SCENE = (
    "recordings on both sides show exactly one scene, as clips cut from one film do",
    "if they are of one film, keep them in one part with --group FILE.csv (columns file and group)",
)
_GROUP = (
    "a model may recognise the person or the place, and not the action, so the test is too easy",
    "keep all recordings of one in one part: data.test_groups, or folders made by person",
)
