"""Tubes in files: this package's JSON, the corrected annotations of UCF101-24 (MATLAB), the original ones (ViPER XML).

All give frames from 0 and boxes as :mod:`muybridge.core.tubes` has them. A box that leaves the frame is cut to it.
Annotations may have gaps; each run of consecutive frames is then a tube of its own.

Legend: T frames, N boxes.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.tubes import Tube, TubeSet, area, clip_to_frame
from muybridge.media.matlab import read_mat
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes

UCF24 = (
    *("Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving", "Fencing"),
    *("FloorGymnastics", "GolfSwing", "HorseRiding", "IceDancing", "LongJump", "PoleVault", "RopeClimbing"),
    *("SalsaSpin", "SkateBoarding", "Skiing", "Skijet", "SoccerJuggling", "Surfing", "TennisSwing"),
    *("TrampolineJumping", "VolleyballSpiking", "WalkingWithDog"),
)
"""The classes of UCF101 that have boxes, in the order of their labels."""

_MOST_FRAMES = 1_000_000  # of a video; damaged numbers would otherwise fill the memory
UCF_SIZE = (240, 320)
"""Height and width of every video of UCF101."""

# Files from the older UCF Sports and UCF11 collections keep their names for the actions.
_ALIASES = {
    "Basketball": "basketball_shooting",
    "Biking": "biking",
    "Diving": "diving",
    "GolfSwing": "golf_swing",
    "HorseRiding": "horse_riding",
    "SoccerJuggling": "soccer_juggling",
    "TennisSwing": "tennis_swing",
    "TrampolineJumping": "trampoline_jumping",
    "VolleyballSpiking": "volleyball_spiking",
    "WalkingWithDog": "walking",
}


def read_tubes(path: str | Path) -> TubeSet:
    """The tubes in this package's ``.json``, a ``finalAnnots.mat``, or a folder of ViPER ``.xgtf`` or ``.xml`` files.

    Raises:
        DataError: missing, damaged, or not in one of these formats.
    """
    path = Path(path)
    if path.is_dir():
        return read_viper_folder(path)
    readers = {".json": read_json_tubes, ".mat": read_final_annots}
    if path.suffix.lower() not in readers:
        raise DataError(
            f"annotations that end in {path.suffix or 'nothing'} are not known",
            expected="finalAnnots.mat, a folder of ViPER files, or a .json file that muybridge wrote",
            hint="name one of these",
            where=path,
        )
    return readers[path.suffix.lower()](path)


def read_final_annots(path: Path) -> TubeSet:
    """The corrected annotations of UCF101-24, ``finalAnnots.mat`` (Singh et al., ICCV 2017).

    Raises:
        DataError: not a MATLAB file, not these annotations, or a tube that has not one box for each frame.
    """
    content = read_mat(path)
    tubes, frames = [], {}
    try:
        for video in content["annot"].ravel():
            name = str(video["name"].item())
            frames[name] = int(video["num_imgs"].item())
            for tube in video["tubes"].ravel():
                first, last, label = (int(tube[key].item()) - 1 for key in ("sf", "ef", "class"))
                left_top, sides = np.split(tube["boxes"].astype(np.float64), 2, axis=1)
                boxes = np.concatenate([left_top - 1, left_top - 1 + sides], axis=1)
                if len(boxes) != last - first + 1:
                    raise DataError(
                        f"{name} has a tube of {last - first + 1} frames with {len(boxes)} boxes",
                        expected="one box for each frame",
                        hint=DOWNLOAD_AGAIN,
                        where=path,
                    )
                tubes.append(Tube(name, label, _in_frame(boxes, UCF_SIZE, name, path), first))
    except (KeyError, ValueError, IndexError, TypeError, AttributeError, OverflowError) as problem:
        raise DataError(
            f"the file is laid out differently ({problem})",
            expected="finalAnnots.mat of UCF101-24: annot with name, num_imgs and tubes (sf, ef, class, boxes)",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None
    return TubeSet(UCF24, tuple(tubes), frames)


def read_viper_folder(folder: Path) -> TubeSet:
    """All ViPER files of a folder and its sub-folders, as the original annotations of UCF101-24 are handed out.

    Raises:
        DataError: there are none, or one is damaged.
    """
    files = sorted(file for file in folder.rglob("v_*") if file.suffix.lower() in {".xgtf", ".xml"})
    if not files:
        raise DataError(
            "the folder holds no annotations",
            expected="files called v_CLASS_gNN_cNN.xgtf",
            hint="unpack the annotations of UCF101-24 here, or name their folder",
            where=folder,
        )
    sets = [read_viper(file) for file in files]
    return TubeSet(
        UCF24,
        tuple(tube for part in sets for tube in part.tubes),
        {video: length for part in sets for video, length in part.frames.items()},
    )


def read_viper(path: Path) -> TubeSet:
    """The people who perform the action in one video of UCF101-24, from its ViPER file ``v_CLASS_gNN_cNN.xgtf``.

    A tube runs over frames in which a person has a box inside the frame and the action's flag is set. Where no
    person of a file is flagged, all are taken to act, as the files that do not flag anyone mean it.

    Raises:
        DataError: no XML, not of ViPER's form, or of a class that UCF101-24 does not have.
    """
    action = path.stem.split("_")[1] if path.stem.count("_") else ""
    if action not in UCF24:
        raise DataError(
            f"the name does not contain one of the {len(UCF24)} classes",
            expected="v_CLASS_gNN_cNN.xgtf with a class of UCF101-24",
            hint="keep the names that the annotations came with",
            where=path,
        )
    video = f"{action}/{path.stem}"
    try:
        source = next(_iter_named(ET.fromstring(read_bytes(path)), "sourcefile"))
        size = (_value(source, "V-FRAME-SIZE", UCF_SIZE[0]), _value(source, "H-FRAME-SIZE", UCF_SIZE[1]))
        people = [_person(item, action, size) for item in _iter_named(source, "object") if item.get("name") == "PERSON"]
    except (ET.ParseError, StopIteration, ValueError, KeyError, TypeError, OverflowError) as problem:
        raise DataError(
            f"not readable as ViPER annotations ({type(problem).__name__}: {problem})",
            expected="XML with a sourcefile that holds objects called PERSON",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None
    flagged = any(acting for _, acting in people)
    tubes = []
    for boxes, acting in people:
        annotated = sorted(boxes.keys() & acting if flagged else boxes)
        for run in _runs(annotated):
            tubes.append(Tube(video, UCF24.index(action), np.array([boxes[frame] for frame in run]), run[0]))
    length = _value(source, "NUMFRAMES", max((tube.end for tube in tubes), default=0))
    return TubeSet(UCF24, tuple(tubes), {video: length})


def write_tubes(path: Path, tubes: TubeSet) -> None:
    """Tubes as JSON, written atomically; :func:`read_tubes` reads them back, to a hundredth of a pixel.

    ``labels`` are class names; ``frames`` and ``fps``, length and frame rate of each video; each of ``tubes`` has
    ``video``, ``label`` (a name), ``score``, ``first`` (its first frame, from 0) and ``boxes``, one for each frame from
    there on: left, top, right, bottom in pixels of the file.

    Raises:
        DataError: the file cannot be written.
    """
    content = {
        "format": "muybridge tubes 1",
        "labels": tubes.labels,
        "frames": dict(tubes.frames),
        "fps": dict(tubes.fps),
        "tubes": [
            {
                "video": tube.video,
                "label": tubes.labels[tube.label],
                "score": tube.score,
                "first": tube.first,
                "boxes": np.round(tube.boxes, 2).tolist(),
            }
            for tube in tubes.tubes
        ],
    }
    try:
        with atomic_write(path) as draft:
            draft.write_text(json.dumps(content), encoding="utf-8")
    except OSError as problem:
        raise DataError(
            f"the tubes cannot be written ({problem.strerror})",
            expected="a folder that exists and can be written to",
            hint="free some space, or choose another folder",
            where=path,
        ) from None


def read_json_tubes(path: Path) -> TubeSet:
    """The tubes in a JSON file as :func:`write_tubes` lays it out.

    Raises:
        DataError: no JSON, another layout, or a box that is missing, not finite, or without area.
    """
    try:
        content = json.loads(read_bytes(path))
        labels = tuple(content["labels"])
        frames = {str(video): int(length) for video, length in content["frames"].items()}
        fps = {str(video): float(rate) for video, rate in content.get("fps", {}).items()}
        tubes = tuple(_json_tube(item, labels, path) for item in content["tubes"])
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise DataError(
            f"not readable as tubes ({type(problem).__name__}: {problem})",
            expected="JSON with labels, frames by video, and tubes (video, label, score, first, boxes)",
            hint="write it with write_tubes, or lay it out as that does",
            where=path,
        ) from None
    return TubeSet(labels, tubes, frames, fps)


def _json_tube(item: dict[str, Any], labels: Sequence[str], path: Path) -> Tube:
    video, first = str(item["video"]), int(item["first"])
    for step, box in enumerate(item["boxes"]):
        if box is None:
            raise DataError(
                f"a tube of {video} has no box in frame {first + step}",
                expected="tubes without gaps",
                hint="make a tube of each run of frames, or fill the gap",
                where=path,
            )
    boxes = np.array(item["boxes"], dtype=np.float64).reshape(-1, 4)
    return Tube(video, labels.index(item["label"]), _check_boxes(boxes, video, path), first, float(item["score"]))


def _in_frame(boxes: Float64[np.ndarray, "N 4"], size: tuple[int, int], video: str, path: Path) -> np.ndarray:
    return _check_boxes(clip_to_frame(boxes, *size), video, path)


def _check_boxes(boxes: Float64[np.ndarray, "N 4"], video: str, path: Path) -> Float64[np.ndarray, "N 4"]:
    invalid = np.flatnonzero(~np.isfinite(boxes).all(axis=1) | (area(boxes) <= 0) | (boxes[:, 2] <= boxes[:, 0]))
    if invalid.size or not len(boxes):
        problem = "a tube is empty"
        if invalid.size:
            problem = f"box {invalid[0]} of a tube of {video} is {boxes[invalid[0]].tolist()}"
        raise DataError(
            problem,
            expected="left < right and top < bottom, within the frame",
            hint="correct the box, or cut the tube where the actor leaves the frame",
            where=path,
        )
    return boxes


def _person(
    item: ET.Element, action: str, size: tuple[int, int]
) -> tuple[dict[int, Float64[np.ndarray, " 4"]], set[int]]:
    """Boxes of one person by frame, and the frames in which the person does the action."""
    boxes: dict[int, np.ndarray] = {}
    acting: set[int] = set()
    visible = _frames(item.attrib["framespan"])
    for attribute in _iter_named(item, "attribute"):
        name = attribute.get("name")
        for entry in attribute:
            frames = visible & _frames(entry.attrib["framespan"]) if "framespan" in entry.attrib else visible
            if name == "Location" and entry.tag.endswith("}bbox"):
                left, top, width, height = (float(entry.attrib[key]) for key in ("x", "y", "width", "height"))
                box = clip_to_frame(np.array([[left, top, left + width, top + height]]), *size)
                if area(box)[0] > 0:
                    boxes.update((frame, box[0]) for frame in frames)
            elif name in (action, _ALIASES.get(action)) and entry.attrib["value"].lower() in ("true", "1"):
                acting |= frames
    return boxes, acting


def _frames(spans: str) -> set[int]:
    """ViPER's ``1:40 52:60``, which counts from 1 and includes both ends, as frames from 0."""
    ends = [(int(first) - 1, int(last)) for first, last in (span.split(":") for span in spans.split())]
    if sum(last - first for first, last in ends) > _MOST_FRAMES:
        raise ValueError(f"the span {spans} has more than {_MOST_FRAMES} frames")
    return {frame for first, last in ends for frame in range(first, last)}


def _runs(frames: Sequence[int]) -> Iterator[list[int]]:
    """Rising frame numbers, cut where one is missing."""
    begins = [0, *(at + 1 for at, (before, after) in enumerate(pairwise(frames)) if after > before + 1), len(frames)]
    return (list(frames[begin:end]) for begin, end in pairwise(begins) if begin < end)


def _iter_named(node: ET.Element, name: str) -> Iterator[ET.Element]:
    """Elements of this name below the node, in any name space."""
    return node.iterfind(f".//{{*}}{name}")


def _value(source: ET.Element, name: str, default: int) -> int:
    """A number that the file states about its video."""
    for attribute in _iter_named(source, "attribute"):
        if attribute.get("name") == name and len(attribute):
            return int(float(attribute[0].attrib["value"]))
    return default
