"""The bones of skeletons about whose joints nothing is known, and the pairs that a mirror swaps, from how joints move.

A bone keeps its length while the joints move: bones make up the tree of short and constant distances between joints. Of
nearly equal trees a symmetric one is taken, as arms and legs are.

Legend: N bodies (a person in a frame), J joints.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations

import numpy as np
from jaxtyping import Float64
from scipy.sparse.csgraph import minimum_spanning_tree

_CONSTANCY = 10.0  # how much a change of length counts beside the length itself
_PAIR = 0.02  # the share of a tree's cost that a pair of equal joints outweighs
_EQUAL = 0.25  # relative difference of the lengths of two bones up to which they may be each other's mirror image
_OFTEN = 0.9  # quantile over recordings of the change of a distance
_ROUNDS = 6
_MOST_BRANCHES = 5  # of a joint, of which every order is tried
_NEAREST = 4  # edges for each joint that are tried in place of others

Edge = tuple[int, int]
Edges = frozenset[Edge]


@dataclass(frozen=True)
class Distances:
    """Distances between joints, in sizes of the body.

    Attributes:
        length: median over frames and recordings.
        change: how much a distance changes within a recording (5 to 95 %), in those where it changes much.
    """

    length: Float64[np.ndarray, "J J"]
    change: Float64[np.ndarray, "J J"]

    @classmethod
    def of(cls, people: Iterable[Float64[np.ndarray, "N J 3"]]) -> "Distances":
        """The distances in recordings of single people."""
        lengths, changes = [], []
        for bodies in people:
            distance = np.linalg.norm(bodies[:, :, None] - bodies[:, None], axis=-1)
            distance = distance / max(np.median(distance.mean((1, 2))), 1e-12)
            low, middle, high = np.quantile(distance, [0.05, 0.5, 0.95], axis=0)
            lengths.append(middle)
            changes.append(high - low)
        return cls(np.median(lengths, axis=0), np.quantile(changes, _OFTEN, axis=0))

    @cached_property
    def cost(self) -> Float64[np.ndarray, "J J"]:
        """Of each pair of joints as a bone: small where it is short and constant."""
        return self.length + _CONSTANCY * self.change + 1e-9


def find_tree(distances: Distances) -> Edges:
    """The bones as pairs of joints, the smaller number first: the cheapest tree, less what its symmetry is worth."""
    cheapest = minimum_spanning_tree(np.triu(distances.cost, 1)).tocoo()
    tree = frozenset(_edge(int(a), int(b)) for a, b in zip(cheapest.row, cheapest.col, strict=True))
    unit = _PAIR * sum(distances.cost[edge] for edge in tree)

    def value(edges: Edges) -> float:
        paired = sum(len(limbs.pairs) for limbs in find_limbs(edges, distances))
        return unit * paired - sum(distances.cost[edge] for edge in edges)

    best = value(tree)
    for _ in range(_ROUNDS):
        changed = max(_neighbours(tree, distances), key=value, default=tree)
        if (reached := value(changed)) <= best + 1e-9:
            break
        tree, best = changed, reached
    return tree


@dataclass(frozen=True)
class Limbs:
    """Two branches of one shape, such as the legs.

    Attributes:
        joint: where both begin, in the middle line.
        pairs: a joint of the one and its mirror image in the other, from the middle outwards.
    """

    joint: int
    pairs: tuple[Edge, ...]


def find_limbs(edges: Edges, distances: Distances) -> list[Limbs]:
    """The pairs of branches of a tree that a mirror swaps, of the middle line with most of them; empty for none."""
    around = neighbours_of(edges, len(distances.length))
    found = (_limbs_below(root, None, around, distances) for root in range(len(around)))
    return max(found, key=lambda limbs: sum(len(each.pairs) for each in limbs))


def neighbours_of(edges: Edges, joints: int) -> list[list[int]]:
    """The joints that bones connect with each joint."""
    around: list[list[int]] = [[] for _ in range(joints)]
    for a, b in sorted(edges):
        around[a].append(b)
        around[b].append(a)
    return around


def _limbs_below(joint: int, parent: int | None, around: Sequence[Sequence[int]], distances: Distances) -> list[Limbs]:
    """The limbs in the branches of a joint of the middle line."""
    limbs: list[Limbs] = []
    alone = [child for child in around[joint] if child != parent]
    for first, second in combinations(alone, 2):
        if (
            first in alone
            and second in alone
            and (pairs := _matched((joint, first), (joint, second), around, distances))
        ):
            limbs.append(Limbs(joint, tuple(pairs)))
            alone = [child for child in alone if child not in (first, second)]
    return limbs + [each for child in alone for each in _limbs_below(child, joint, around, distances)]


def _matched(one: Edge, other: Edge, around: Sequence[Sequence[int]], distances: Distances) -> list[Edge] | None:
    """The pairs of two branches, given by their first bones, that mirror each other; None if they do not."""
    (above_a, a), (above_b, b) = one, other
    lengths = distances.length[one], distances.length[other]
    if abs(lengths[0] - lengths[1]) > _EQUAL * sum(lengths) / 2 or len(around[a]) != len(around[b]):
        return None
    below_a, below_b = ([c for c in around[j] if c != up] for j, up in ((a, above_a), (b, above_b)))
    if len(below_a) > _MOST_BRANCHES:
        return None
    for order in permutations(below_b):
        found = [_matched((a, c), (b, d), around, distances) for c, d in zip(below_a, order, strict=True)]
        if None not in found:
            return [(a, b), *(pair for pairs in found if pairs for pair in pairs)]
    return None


def _neighbours(tree: Edges, distances: Distances) -> Iterable[Edges]:
    """Trees that differ in one bone, by one of those that are cheapest for a joint."""
    joints = len(distances.cost)
    order = np.argsort(distances.cost + 1e9 * np.eye(joints), axis=1)[:, :_NEAREST]
    for new in sorted({_edge(a, int(b)) for a in range(joints) for b in order[a]} - tree):
        for old in path_between(*new, neighbours_of(tree, joints)):
            yield tree - {old} | {new}


def path_between(start: int, end: int, around: Sequence[Sequence[int]]) -> list[Edge]:
    """The bones between two joints of a tree, in order."""
    stack: list[tuple[int, int | None, list[Edge]]] = [(start, None, [])]
    while stack:
        joint, parent, path = stack.pop()
        if joint == end:
            return path
        stack += [(other, joint, [*path, _edge(joint, other)]) for other in around[joint] if other != parent]
    return []


def _edge(a: int, b: int) -> Edge:
    return (a, b) if a < b else (b, a)
