"""Recordings whose content is on both sides of a split: copies, mirrored or re-encoded ones too, and clips of one film.

Compared are the descriptors that the baselines read anyway, so that nothing is read for this. The thresholds lie above
what recordings of different people reach in UTD-MHAD, MSR Action3D and SBU, where one camera saw everybody.

Legend: N, A, B recordings, T moments, P people, J joints, F coordinates of a frame, S thumbnail side, D numbers that
describe a recording, or coordinates of a joint.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float32, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from muybridge.baseline.descriptors import Descriptors
from muybridge.core.contracts import Holds, SkeletonData
from muybridge.core.types import Record

MAX_COMPARED = 5000
"""In larger data sets recordings are not compared."""

SAME_SCENE = 0.75
"""Agreement of the edges in two thumbnails from which on they show one scene; it is below 0.4 for unrelated scenes."""

SAME_CHANGES = 0.975
"""Correlation of the changes from which on two videos of one scene are copies."""

SAME_SERIES = 0.08
"""Distance of joint series, as a share of their movement, below which two sequences of skeletons are copies."""

SAME_POSES = 5
"""Poses that two sequences of skeletons have in common from which on they are pieces of one recording."""

SETUP = 20
"""Recordings from which on a scene is where everybody was recorded, not a film, if half of the classes occur in it."""

_SIMILAR = 0.65  # agreement of edges, as SAME_SCENE, of which chains lead through one place
_CONTRAST = 0.008  # difference of neighbouring pixels, 0 to 1, below which it is noise; at least a quarter of the mean
_STEPS = 4  # every fourth moment of a joint series is compared
_MEMBERS = 16  # recordings with one pose in common of which all pairs are looked at
_BLOCK = 512
_EXAMPLES = 3

Pairs = Int[np.ndarray, "N 2"]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Pairs of recordings by their numbers, the smaller one first.

    Attributes:
        copies: with the same content, one perhaps longer.
        pieces: of skeletons, with a few poses in common, such as windows of one recording that overlap.
        scenes: of videos that show one scene, unless most recordings show it.
    """

    copies: Pairs
    pieces: Pairs = field(default_factory=lambda: np.zeros((0, 2), int))
    scenes: Pairs = field(default_factory=lambda: np.zeros((0, 2), int))


def describe_near_duplicates(
    train: Sequence[Record], test: Sequence[Record], described: Sequence[Descriptors], holds: Holds
) -> list[str]:
    """Notices about recordings of the test that training has seen, and about copies in different classes.

    Args:
        train: the recordings of the training part.
        test: the recordings of the part that is tested on.
        described: what the baselines see of each, in this order.
        holds: what kind of recordings they are.
    """
    records = [*train, *test]
    if len(records) > MAX_COMPARED:
        return [f"recordings were not compared with each other, as there are more than {MAX_COMPARED}"]
    labels = np.array([record.label for record in records])
    found = find_near_duplicates(described, labels, holds)
    copies = _across(np.concatenate([found.copies, found.pieces]), len(train))
    scenes = _across(found.scenes, len(train))
    scenes = scenes[~np.isin(scenes[:, 1], copies[:, 1])]
    odd = found.copies[labels[found.copies[:, 0]] != labels[found.copies[:, 1]]]
    notices = []
    if len(copies):
        notices.append(
            f"{_tested(copies)} of {len(test)} test recordings are copies of training recordings, or have frames in "
            f"common with them, so the test is too easy: {_examples(copies, records)}; remove them, or {_CURE}"
        )
    if len(scenes):
        notices.append(
            f"{_tested(scenes)} of {len(test)} test recordings show exactly the scene of training recordings, as clips "
            f"cut from one film do: {_examples(scenes, records)}; if they are, {_CURE}"
        )
    if len(odd):
        notices.append(f"copies are in different classes: {_examples(odd, records)}; remove those that are wrong")
    return notices


_CURE = "keep those of one source in one part with --group FILE.csv (columns file and group)"


def find_near_duplicates(
    described: Sequence[Descriptors], labels: Int[np.ndarray, " N"], holds: Holds
) -> NearDuplicates:
    """Copies, and recordings of one scene, among recordings of one kind and of these classes."""
    if isinstance(holds, SkeletonData):
        same, pieces = _shared_poses(described)
        copies = np.concatenate([_same_series([one.series for one in described], holds), same])
        return NearDuplicates(np.unique(copies, axis=0), pieces)
    edges = _edges(np.stack([one.pictures for one in described]))
    changes = _normalized(np.stack([one.movement for one in described]))

    def agreement(rows: slice) -> Float32[np.ndarray, "A B"]:
        one, other = edges[rows].reshape(-1, edges.shape[2]), edges[rows.start :].reshape(-1, edges.shape[2])
        return (one @ other.T).reshape(-1, 3, len(other) // 3, 3).max((1, 3))

    similar, scores = _find_pairs(len(edges), agreement, _SIMILAR)
    same = scores > SAME_SCENE
    alike, _ = _find_pairs(len(edges), lambda rows: changes[rows] @ changes[rows.start :].T, SAME_CHANGES)
    copies = alike[np.isin(alike @ [len(edges), 1], similar[same] @ [len(edges), 1])]
    return NearDuplicates(copies, scenes=similar[same & ~_in_setups(similar, labels)])


def _find_pairs(
    count: int, compare: Callable[[slice], Float32[np.ndarray, "A B"]], least: float
) -> tuple[Pairs, Float32[np.ndarray, " N"]]:
    """Pairs whose score is above ``least``, and the scores, from those of some rows with all from their first on."""
    pairs, scores = [np.zeros((0, 2), int)], [np.zeros(0, np.float32)]
    for start in range(0, count, _BLOCK):
        block = compare(slice(start, start + _BLOCK))
        found = np.argwhere(np.triu(block > least, 1))
        pairs.append(found + start)
        scores.append(block[found[:, 0], found[:, 1]])
    return np.concatenate(pairs), np.concatenate(scores)


def _edges(pictures: Float32[np.ndarray, "N 3 S S"]) -> Float32[np.ndarray, "N 3 D"]:
    """Signs of the differences of neighbouring pixels, 0 where there is no edge, as vectors of length 1.

    Signs, so that people in front of a scene, however bright, change no more than where they are.
    """
    steps = [np.diff(pictures, axis=axis).reshape(*pictures.shape[:2], -1) for axis in (2, 3)]
    edges = np.concatenate(steps, axis=2)
    least = np.maximum(_CONTRAST, np.abs(edges).mean(2, keepdims=True) / 4)
    return _normalized(np.sign(edges) * (np.abs(edges) > least))


def _normalized(vectors: Float32[np.ndarray, "*N D"]) -> Float32[np.ndarray, "*N D"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)


def _in_setups(pairs: Pairs, labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Which pairs are of a scene that holds most of the recordings, or many of half of the classes."""
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(labels), len(labels)))
    _, scene = connected_components(links, directed=False)
    sizes = np.bincount(scene)
    classes = np.array([len(set(labels[scene == number])) if size >= SETUP else 0 for number, size in enumerate(sizes)])
    is_setup = (2 * sizes > len(labels)) | (2 * classes >= max(4, len(set(labels))))
    return is_setup[scene[pairs[:, 0]]]


def _same_series(series: Sequence[Float32[np.ndarray, "F T"]], holds: SkeletonData) -> Pairs:
    """Pairs whose joints move alike, or like the mirror image of the other one."""
    joints = np.stack(series)[:, :, ::_STEPS]
    movement = np.linalg.norm(joints - joints.mean(2, keepdims=True), axis=(1, 2))
    joints = joints.reshape(len(joints), holds.people, len(holds.layout), holds.coordinates, -1)
    vectors = joints.reshape(len(joints), -1)
    images = [vectors, *(image.reshape(len(image), -1) for image in _mirror_images(joints, holds))]
    squares = np.square(vectors).sum(1)

    def closeness(rows: slice) -> Float32[np.ndarray, "A B"]:
        product = np.max([vectors[rows] @ image[rows.start :].T for image in images], axis=0)
        distance = (squares[rows, None] + squares[rows.start :] - 2 * product).clip(0) ** 0.5
        return -distance / np.minimum(movement[rows, None], movement[rows.start :]).clip(1e-9)

    return _find_pairs(len(vectors), closeness, -SAME_SERIES)[0]


def _mirror_images(
    joints: Float32[np.ndarray, "N P J D T"], holds: SkeletonData
) -> Iterator[Float32[np.ndarray, "N P J D T"]]:
    """Mirrored to the side or in depth, as bodies are turned to the camera; with and without left and right swapped."""
    swapped = np.arange(len(holds.layout))
    for left, right in holds.layout.mirror:
        swapped[[left, right]] = right, left
    for axis in range(0, holds.coordinates, 2):
        image = joints.copy()
        image[:, :, :, axis] *= -1
        yield image
        if holds.layout.mirror:
            yield image[:, :, swapped]


def _shared_poses(described: Sequence[Descriptors]) -> tuple[Pairs, Pairs]:
    """Pairs that have half of the poses of the shorter one in common, and those that have at least a few."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(described):
        for pose in one.poses:
            members[pose].append(index)
    common: Counter[tuple[int, int]] = Counter()
    for indices in members.values():
        common.update(combinations(indices[:: -(-len(indices) // _MEMBERS)], 2))
    pairs = np.array(sorted(common), int).reshape(-1, 2)
    counts = np.array([common[a, b] for a, b in pairs.tolist()], int)
    lengths = np.array([len(one.poses) for one in described])[pairs].min(1)
    return pairs[2 * counts >= lengths], pairs[(counts >= SAME_POSES) & (2 * counts < lengths)]


def _across(pairs: Pairs, training: int) -> Pairs:
    """Pairs of a training recording, which come first, and a test recording."""
    return pairs[(pairs[:, 0] < training) & (pairs[:, 1] >= training)]


def _tested(pairs: Pairs) -> int:
    return len(np.unique(pairs[:, 1]))


def _examples(pairs: Pairs, records: Sequence[Record]) -> str:
    """The first few pairs by name, one for each second recording."""
    _, first = np.unique(pairs[:, 1], return_index=True)
    named = [f"{records[a].id} = {records[b].id}" for a, b in pairs[first[:_EXAMPLES]]]
    return ", ".join(named) + (f" and {len(first) - _EXAMPLES} more" if len(first) > _EXAMPLES else "")
