"""The user's own recordings of skeletons: a folder for each class."""

import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

from jaxtyping import Float
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.files import FoundFiles, find_files
from muybridge.core.skeletons import LAYOUTS, Layout, get_layout, unnamed_layout
from muybridge.core.types import Record, SkeletonSequence, Span
from muybridge.data.datasets.base import preview
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.data.joint_settings import JointSettings
from muybridge.data.skeleton_checks import (
    LayoutCheck,
    body_size,
    candidates_of,
    check_layout,
    count_swaps,
    describe_check,
    mean_body,
    number,
    people_in_a_row,
    vertical_axis,
)
from muybridge.data.skeleton_inference import Inference, infer_layout
from muybridge.data.skeleton_ops import cut_span, describe_layout, match_layout
from muybridge.media.arrays import Coordinates, ReadOptions, Up, parse_axes
from muybridge.media.parsing import NoPersonError
from muybridge.media.poses import with_frame_folders
from muybridge.media.skeleton import SUFFIXES, read_skeleton

_SAMPLE = 32  # recordings by which the layout is judged
_SAMPLE_OF_MOVEMENT = 100  # recordings by which the bones of an unknown layout are inferred
_LARGEST_BODY = 50  # metres: coordinates are in centimetres, millimetres or pixels
_UNITS = 20  # bodies of one unit do not differ in size by such a factor

_FileState = tuple[Path, int, int]


class SkeletonFolder(ClassFolder):
    """Files ``class/name.ext`` (or deeper) of any format that :func:`read_skeleton` knows, or OpenPose's folders.

    Attributes:
        layout: what the joints are; empty chooses the layout of that many joints which the recordings fit. plainN is N
            joints in any other order.
        joints: bones, mirror pairs, root, torso and shoulders of joints in no known order; without it they are inferred
            from how the joints move, where that is safe.
        people: per recording; 0 takes the largest number in any.
        coordinates: 2 or 3, what follows (a score) is dropped; 0 takes what the files have, and refuses scores.
        axes: order of the axes of arrays, such as "MTVC" (T frames, M people, V joints, C coordinates); empty
            is "TMVC", refused where the content contradicts it.
        fps: frames per second of the recordings, for a table that gives parts of them in seconds.
        up: the axis that points up in recordings in 3-D, which is turned to y; "-y" where y points down; empty does not
            turn them.
        min_score: joints that a pose estimator found with less confidence are missing, and interpolated over time; 0
            keeps all that it gives. Files of estimators say it, and others with scores.
    """

    recordings: ClassVar[str] = f"files that end in {', '.join(SUFFIXES)}, or folders of OpenPose's frames"
    content_settings: ClassVar[tuple[str, ...]] = ("coordinates", "axes", "up", "min_score")
    suffixes: ClassVar[Collection[str]] = SUFFIXES
    name: Literal["skeleton_folder"] = "skeleton_folder"
    layout: str = ""
    joints: JointSettings | None = None
    people: int = Field(default=0, ge=0)
    coordinates: Coordinates = 0
    axes: str = ""
    fps: PositiveFloat | None = None
    up: Up = ""
    min_score: float = Field(default=0.0, ge=0)

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: str) -> str:
        if axes:
            parse_axes(axes)
        return axes

    def resolved(self) -> Self:
        """With an absolute root, and classes, layout, joints, people and coordinates written out."""
        holds = self.holds()
        derived = {"layout": holds.layout.name, "people": holds.people, "coordinates": holds.coordinates}
        derived["joints"] = None if holds.layout.name in LAYOUTS else JointSettings.of(holds.layout)
        return super().resolved().model_copy(update=derived)

    def holds(self) -> SkeletonData:
        """What is given, completed by reading the files.

        Raises:
            DataError: a file cannot be read, recordings differ in joints or coordinates, or several layouts fit.
        """
        if self.layout and self.people and self.coordinates:
            return SkeletonData(self._described(get_layout(self.layout)), self.people, self.coordinates)
        usable = self._usable()
        self._check_alike(usable)
        _, facts = usable[0]
        layout = get_layout(self.layout) if self.layout else self._stated(usable) or self._detect_layout(facts.joints)
        layout = self._described(layout)
        if self.joints is None and not layout.known:
            inferred = self._inference().layout
            layout = inferred if inferred.known else layout
        people = self.people or max(facts.people for _, facts in usable)
        return SkeletonData(layout, people, self.coordinates or facts.coordinates)

    def _check_alike(self, usable: Sequence[tuple[Path, "_Facts"]]) -> None:
        """Raises DataError unless all recordings have the joints and coordinates of the settings, or of the first."""
        first, facts = usable[0]
        joints = len(get_layout(self.layout)) if self.layout else facts.joints
        coordinates = self.coordinates or facts.coordinates
        for path, facts in usable:
            if (facts.joints, facts.coordinates) != (joints, coordinates):
                raise DataError(
                    f"the recording has {facts.joints} joints of {facts.coordinates} coordinates",
                    expected=f"{joints} joints of {coordinates}"
                    + (f" (layout {self.layout})" if self.layout else f", as in {first}"),
                    hint="keep recordings of one kind of skeleton in the folder, or correct data.layout",
                    where=path,
                )

    def read_options(self) -> ReadOptions:
        """What the files do not say about themselves."""
        return ReadOptions(self.axes, self.coordinates, self.up, self.min_score)

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_skeleton`; of a recording with a span, the frames of it."""
        sequence = match_layout(read_skeleton(record.path, self.read_options()), self.holds(), where=str(record.path))
        return sequence if record.span is None else cut_span(sequence, record.span, self._rate(), record.path)

    def seconds_of(self, path: Path) -> float:
        """The number of frames over data.fps."""
        return _frames_of(_file_state(path), self.read_options()) / self._rate()

    def search(self, folder: Path) -> FoundFiles:
        """The files with known suffixes anywhere below a folder, and folders of OpenPose's frames."""
        found = find_files(folder, SUFFIXES)
        return replace(found, files=tuple(with_frame_folders(folder, found.files)))

    def unusable(self, record: Record) -> str | None:
        """Nobody is seen in it; each file is read once to know."""
        facts = _facts(_file_state(record.path), self.read_options())
        if isinstance(facts, str) or record.span is None:
            return facts if isinstance(facts, str) else None
        seen = _is_seen(_file_state(record.path), self.read_options(), record.span, self._rate())
        return None if seen else "nobody is seen in its span"

    def _rate(self) -> float:
        """Frames per second, which a span needs."""
        if self.fps is None:
            raise DataError(
                "the table gives parts of recordings in seconds, and files of skeletons have no clock",
                expected="the frames per second of the recordings",
                hint="set data.fps, such as --set data.fps=30",
                where=self.root,
            )
        return self.fps

    def notices(self) -> tuple[str, ...]:
        """What the recordings show that a user should know: how well the layout fits, joints that were filled, ..."""
        usable, layout = self._usable(), self.holds().layout
        self._check_alike(usable)
        sequences = _sample(self._file_states(), self.read_options())
        stated = self._stated(usable)
        known = self.joints is not None or layout.name in LAYOUTS or (stated is not None and stated.known)
        reason = "" if known else self._inference().reason
        check = check_layout(sequences, layout)
        notices = [
            describe_check(check, layout, reason, "the files" if stated else "data.joints"),
            *_layout_oddities(sequences, layout),
        ]
        notices += _vertical_oddities(usable, layout, self.up)
        return (*notices, *_oddities([facts for _, facts in usable]), *super().notices())

    def _file_states(self) -> tuple[_FileState, ...]:
        return tuple(map(_file_state, self.files()))

    def _usable(self) -> list[tuple[Path, "_Facts"]]:
        """The recordings in which somebody is seen, and what they contain."""
        options = self.read_options()
        read = [(state[0], _facts(state, options)) for state in self._file_states()]
        usable = [(path, facts) for path, facts in read if isinstance(facts, _Facts)]
        if not usable:
            raise DataError(
                "nobody is seen in any recording", expected="people", hint="check the coordinates", where=self.root
            )
        return usable

    def _described(self, layout: Layout) -> Layout:
        """A layout that is not known with what data.joints says of it."""
        if self.joints is None:
            return layout
        if layout.known:
            raise RecipeError(
                f"data.joints is given, and the layout is {layout.name}, whose joints are known",
                expected="one of them",
                hint=f"leave out data.joints, or set data.layout = 'plain{len(layout)}'",
            )
        return self.joints.layout(layout)

    def _stated(self, usable: Sequence[tuple[Path, "_Facts"]]) -> Layout | None:
        """The layout that files state; None where no file does, or data.joints describes the joints."""
        stated = {facts.layout: path for path, facts in reversed(usable) if facts.layout is not None}
        if self.joints is not None or not stated:
            return None
        first, *others = sorted(stated, key=lambda layout: stated[layout])
        if unlike := next((layout for layout in others if sorted(layout.joints) != sorted(first.joints)), None):
            raise DataError(
                f"the joints are {describe_layout(unlike)}",
                expected=f"{describe_layout(first)}, as in {stated[first]}",
                hint="keep recordings of one kind of skeleton in the folder",
                where=stated[unlike],
            )
        return first

    def _inference(self) -> Inference:
        return _infer(self._file_states(), self.read_options())

    def _detect_layout(self, joints: int) -> Layout:
        """The layout that the recordings fit; a plain one where none does."""
        check = _check(self._file_states(), self.read_options())
        if check.ambiguous:
            raise DataError(
                f"recordings of {joints} joints fit several layouts (plausibility: {check})",
                expected=f"one of {candidates_of(joints)}",
                hint="set data.layout",
                where=self.root,
            )
        return get_layout(check.best) if check.best else unnamed_layout(joints)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What one recording contains.

    Attributes:
        people, joints, coordinates: of each frame.
        seen: joints of present people in all frames.
        filled: joints that the file lacks.
        swaps: how often two people change places from one frame to the next.
        alternate: whether there are several people, and never two in the same frame.
        size: of a body, in the unit of the file.
        body: mean position of each joint.
        layout: what the file states.
    """

    people: int
    joints: int
    coordinates: int
    seen: int
    filled: int
    swaps: int
    alternate: bool
    size: float
    body: Float[Tensor, "J D"]
    layout: Layout | None


def _file_state(path: Path) -> _FileState:
    state = path.stat()
    return path, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1_000_000)
def _facts(state: _FileState, options: ReadOptions) -> _Facts | str:
    """What a recording contains, or why nothing can be used; read again when the file changes."""
    try:
        sequence = read_skeleton(state[0], options)
    except NoPersonError as problem:
        return problem.problem
    _, people, joints, coordinates = sequence.joints.shape
    return _Facts(
        people=people,
        joints=joints,
        coordinates=coordinates,
        seen=int(sequence.present.sum()) * joints,
        filled=sequence.filled,
        swaps=count_swaps(sequence),
        alternate=bool(sequence.present.any(dim=0).sum() > 1 and sequence.present.sum(dim=1).max() == 1),
        size=body_size(sequence),
        body=mean_body(sequence),
        layout=sequence.layout,
    )


@lru_cache(maxsize=1_000_000)
def _is_seen(state: _FileState, options: ReadOptions, span: Span, fps: float) -> bool:
    """Whether there is anybody in a part of a recording; read again when the file changes."""
    return bool(cut_span(read_skeleton(state[0], options), span, fps, state[0]).present.any())


@lru_cache(maxsize=1_000_000)
def _frames_of(state: _FileState, options: ReadOptions) -> int:
    """The length of a recording; read again when the file changes."""
    return len(read_skeleton(state[0], options))


@lru_cache(maxsize=16)
def _check(states: tuple[_FileState, ...], options: ReadOptions) -> LayoutCheck:
    return check_layout(_sample(states, options))


@lru_cache(maxsize=16)
def _infer(states: tuple[_FileState, ...], options: ReadOptions) -> Inference:
    return infer_layout(_sample(states, options, _SAMPLE_OF_MOVEMENT))


def _sample(states: tuple[_FileState, ...], options: ReadOptions, count: int = _SAMPLE) -> list[SkeletonSequence]:
    """Some of the recordings in which somebody is seen, evenly spread."""
    usable = [state for state in states if isinstance(_facts(state, options), _Facts)]
    count = min(count, len(usable))
    chosen = [usable[index * len(usable) // count] for index in range(count)]
    return [read_skeleton(path, options) for path, _, _ in chosen]


def _layout_oddities(sequences: Sequence[SkeletonSequence], layout: Layout) -> list[str]:
    """Recordings in another layout than most, and several people stored as one."""
    if layout.name not in LAYOUTS:
        if (row := people_in_a_row(sequences)) is None:
            return []
        people, name = row
        return [
            f"the {len(layout)} joints look like {people} people of {name}: save them as frames x {people} people x "
            f"{len(layout) // people} joints x coordinates"
        ]
    fitting = Counter(best for sequence in sequences if (best := check_layout([sequence]).best))
    if len(fitting) < 2:
        return []
    counts = ", ".join(f"{count} of {name}" for name, count in fitting.most_common())
    return [f"recordings are in different layouts ({counts} among {len(sequences)}): keep them in folders of their own"]


def _vertical_oddities(usable: Sequence[tuple[Path, _Facts]], layout: Layout, up: Up) -> list[str]:
    """Bodies that do not stand along y with the head up, and recordings that stand in another way than most."""
    paths: dict[str, list[str]] = {}
    for path, facts in usable:
        if axis := vertical_axis(facts.body, layout):
            paths.setdefault(axis, []).append(path.name)
    if not paths:
        return []
    first, *others = sorted(paths, key=lambda axis: (-len(paths[axis]), axis != "y"))
    notices = []
    if 2 * len(paths[first]) >= len(usable):
        notices += _vertical_notice(first, up, flat=usable[0][1].coordinates == 2)
    if others:
        counts = "; ".join(f"{len(paths[axis])} {_stand(axis)} ({preview(sorted(paths[axis]))})" for axis in others)
        notices.append(
            f"recordings stand in different ways: {len(paths[first])} {_stand(first)}; {counts}. Unless people lie, or "
            "stand on their hands, the axes of these files differ, and a model takes them for other poses: rotate them "
            "before saving, or keep each kind in a folder of its own"
        )
    return notices


def _vertical_notice(axis: str, up: Up, *, flat: bool) -> list[str]:
    """What to set where bodies stand along another axis than y, or head down; ``flat`` are images, whose y is down."""
    if axis == "y" or (flat and axis == "-y"):
        return []
    if flat:
        return ["bodies lie along x: check that coordinates are stored as x, y and not as y, x"]
    if up:
        return [f"with data.up = {up!r} bodies {_stand(axis)}: correct data.up, or leave it out to see how they stand"]
    if axis == "-y":
        return [
            "bodies stand head down (y points down): drawing and mirroring allow for that, but recordings that are "
            "rotated to face the camera show the back, and those whose y points up are other poses to the model: set "
            "data.up = '-y', which rotates all by half a turn"
        ]
    return [f"bodies {_stand(axis)} and not along y, about which recordings are turned: set data.up = {axis!r}"]


def _stand(axis: str) -> str:
    """How a body stands, such as ``stand along z`` or ``stand head down along y``."""
    return f"stand head down along {axis[1:]}" if axis.startswith("-") else f"stand along {axis}"


def _oddities(facts: Sequence[_Facts]) -> list[str]:
    """What is unusual in recordings, a sentence each."""
    notices = []
    if lacking := [recording for recording in facts if recording.filled]:
        filled, seen = sum(recording.filled for recording in lacking), sum(recording.seen for recording in facts)
        notices.append(
            f"{filled} of {seen} joints ({filled / seen:.1%}), in {len(lacking)} recordings, are missing (NaN, or at "
            "the origin, where estimators put joints that they do not find); they are interpolated over time"
        )
    return notices + _people_oddities(facts) + _size_oddities([each.size for each in facts], facts[0].coordinates)


def _people_oddities(facts: Sequence[_Facts]) -> list[str]:
    notices = []
    if swapped := [each for each in facts if each.swaps]:
        notices.append(
            f"in {len(swapped)} recordings people change places from one frame to the next "
            f"({sum(each.swaps for each in swapped)} times): write the same person at the same place in every frame"
        )
    if alternating := [each for each in facts if each.alternate]:
        notices.append(
            f"in {len(alternating)} recordings several people are listed and never two in the same frame: if they are "
            "one person, write them as the same"
        )
    people = [each.people for each in facts]
    if max(people) > max(3, 2 * statistics.median(people)):
        notices.append(
            f"recordings have up to {max(people)} people, and half of them {statistics.median(people):g} or fewer: "
            "data.people keeps those who are seen most"
        )
    return notices


def _size_oddities(sizes: Sequence[float], coordinates: int) -> list[str]:
    notices, typical = [], statistics.median(sizes)
    if min(sizes) > 0 and max(sizes) > _UNITS * min(sizes):
        notices.append(
            f"bodies are between {number(min(sizes))} and {number(max(sizes))} units high or wide: recordings "
            "seem to be in different units"
        )
    if coordinates == 3 and typical > _LARGEST_BODY:
        notices.append(
            f"bodies are {number(typical)} units high or wide, so the unit is not the metre; models that take "
            "positions as they are learn better with model.unit_scale = true, or from metres"
        )
    return notices
