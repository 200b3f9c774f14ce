"""What an ONNX file says of itself: all that a program without muybridge needs, as texts in its metadata.

muybridge         version of the package that wrote the file
format            of this metadata
model             name and title of the model, JSON
labels            class names in the order of ``logits``, JSON
input             how an input is made from a recording, JSON, see :func:`describe_input`
recipe            the complete recipe, TOML
weights_sha256    checksum of the weights
checked           on what, and how closely, the file agrees with PyTorch, JSON
calibration       of a calibrated run: ``temperature``, which divides log-probabilities, and the threshold, JSON
training          length and size of the training recordings, how many were excluded, and where the data is, JSON
quantized         of a file with integers: which operators, and what they were calibrated on, JSON
split             the recordings of each split (``split.csv``), as Base64 of a zlib stream; absent without a training
"""

import base64
import json
import zlib
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import tomli_w

from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.data.clip_ops import eval_short_side
from muybridge.data.prepare import ClipPreparation, Preparation, SkeletonPreparation
from muybridge.engine.bodies import read_bodies
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import read_durations
from muybridge.engine.saved_split import SPLITS
from muybridge.engine.weights import checksum, read_weights
from muybridge.recipe import Recipe, dump

FORMAT = 1
"""Raised whenever a file of one version cannot be read by the other."""

Metadata = dict[str, str]


def describe(run: RunFolder, recipe: Recipe) -> Metadata:
    """The metadata of a run, without ``checked``."""
    split, calibration = run.path / "split.csv", run.calibration()
    texts = {
        "muybridge": version("muybridge"),
        "format": str(FORMAT),
        "model": _json({"name": recipe.model.name, "title": recipe.model.spec.title}),
        "labels": _json(run.labels()),
        "input": _json(describe_input(recipe)),
        "recipe": tomli_w.dumps(dump(recipe)),
        "weights_sha256": checksum(read_weights(run.path / "weights.safetensors")),
        "training": _json(_describe_training(run)),
    }
    if calibration:
        texts["calibration"] = _json(calibration.as_dict())
    return texts | ({"split": compress(split.read_text(encoding="utf-8"))} if split.exists() else {})


def describe_input(recipe: Recipe) -> dict[str, Any]:
    """How the inputs of the model are made from a recording, in numbers and names that JSON has.

    For videos: which frames are read (``segments``, ``frames_per_segment``, ``mode``, ``stride``, ``clips``), how they
    are resized and cropped (``short_side`` or ``resize``, ``size``, ``crops``), and the ``mean`` and ``std`` of each
    channel, from 0 to 1. For skeletons: the order of the joints and what is done to their positions. The settings have
    the names and meanings of the recipe's.
    """
    prepare = recipe.preparation()
    return _describe_clip(prepare, recipe) if isinstance(prepare, ClipPreparation) else _describe_skeleton(prepare)


def compress(text: str) -> str:
    """A long text as a shorter one, in ASCII."""
    return base64.b64encode(zlib.compress(text.encode(), level=9)).decode()


def decompress(text: str) -> str:
    """The inverse of :func:`compress`; raises ValueError or zlib.error for another text."""
    return zlib.decompress(base64.b64decode(text)).decode()


def _describe_clip(prepare: ClipPreparation, recipe: Recipe) -> dict[str, Any]:
    takes, view, holds = prepare.takes, prepare.view, recipe.data.holds()
    assert isinstance(holds, ClipData)
    size = view.size or takes.size
    mean, std = (_by_channel(values, holds.channels) for values in (takes.mean, takes.std))
    crop = {"resize": view.resize} if view.resize else {"short_side": view.short_side or eval_short_side(size)}
    flow = {name: getattr(prepare.flow, name) for name in ("method", "bound", "between")}
    return {
        "kind": "video",
        "channels": holds.channels,
        "segments": takes.segments,
        "frames_per_segment": takes.frames_per_segment,
        **{name: getattr(view, name) for name in ("mode", "stride", "clips", "crops", "reverse")},
        **crop,
        "size": size,
        "mean": mean,
        "std": std,
        **({"flow": flow} if takes.flow else {}),
        **({"statistics": asdict(takes.statistics)} if takes.statistics else {}),
    }


def _describe_skeleton(prepare: Preparation) -> dict[str, Any]:
    assert isinstance(prepare, SkeletonPreparation)
    holds = prepare.holds
    assert isinstance(holds, SkeletonData)
    layout = asdict(holds.layout)
    kept = ("joints", "bones", "root", "torso", "shoulders")
    hidden = () if prepare.takes.statistics else ("positions", "statistics")
    return {
        "kind": "skeletons",
        "layout": layout["name"],
        **{name: layout[name] for name in kept},
        "people": holds.people,
        "coordinates": holds.coordinates,
        **{name: value for name, value in asdict(prepare.takes).items() if name not in hidden},
    }


def _describe_training(run: RunFolder) -> dict[str, Any]:
    durations, bodies = read_durations(run.path), read_bodies(run.path)
    # Only where the data is below MUYBRIDGE_DATA: where it is relative to the run folder says nothing elsewhere.
    paths = {name: {key: value for key, value in places.items() if key != "run"} for name, places in _paths(run)}
    return {
        "durations": asdict(durations) if durations else None,
        "bodies": asdict(bodies) if bodies else None,
        "excluded": {split: run.excluded(split) for split in SPLITS},
        "paths": paths,
    }


def _paths(run: RunFolder) -> list[tuple[str, dict[str, str]]]:
    return list(run.facts().get("paths", {}).items())


def _by_channel(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
