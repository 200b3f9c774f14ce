"""Small films of single recordings with what the model attended to, as parts of the page.

Legend: T frames, H and W pixels, h and w positions of a map.
"""

import base64
import io
import tempfile
import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageSequence

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError, MuybridgeWarning, RunError
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.prepare import collate_inputs
from muybridge.data.skeleton_ops import clean_skeleton
from muybridge.localize import Localizer
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Predictor
from muybridge.viz.animation import animate_skeleton
from muybridge.viz.clip import heat_overlay
from muybridge.viz.report.facts import RunFacts

RIGHT, WRONG = 3, 1
"""Recordings with a film: of so many classes one that is classified correctly, and so many mistakes."""

_MAPS = ("alpha", "beta", "derivative_norm")
_FRAMES, _FPS, _HEIGHT, _FIGURE_HEIGHT = 32, 8.0, 112, 360


def films(facts: RunFacts) -> str:
    """A list in HTML; empty of a model without attention or class activation, and where recordings are gone."""
    try:
        records = {record.id: record for record in facts.recipe.data.index(facts.split).records}
    except DataError:
        return ""
    draw = _drawer(facts)
    if draw is None:
        return ""
    items = []
    for index in chosen(facts):
        record = records.get(facts.ids[index])
        film = draw(record) if record else ""
        if film:
            answer, truth = facts.labels[int(facts.predicted[index])], facts.labels[int(facts.truth[index])]
            wrong = f' <span class="bad">taken for {escape(answer)}</span>' if answer != truth else ""
            items.append(f"<li>{film}<div>{escape(facts.ids[index])}</div><div>{escape(truth)}{wrong}</div></li>")
    return f"<ul class=films>{''.join(items)}</ul>" if items else ""


def chosen(facts: RunFacts) -> list[int]:
    """Indices of the recordings with a film: the most confident ones of different classes, and mistakes."""
    right = np.flatnonzero(facts.predicted == facts.truth)
    order = right[np.argsort(-facts.probabilities[right].max(1), kind="stable")].tolist()
    first = {int(facts.truth[index]): index for index in reversed(order)}  # the most confident of each class
    best = sorted(first.values(), key=order.index)[:RIGHT]
    return [*best, *facts.wrong()[:WRONG]]


def _drawer(facts: RunFacts) -> Callable[[Record], str] | None:
    """From a record to its film in HTML; None for a model that has nothing to show."""
    if isinstance(facts.recipe.data.holds(), SkeletonData):
        predictor = Predictor(facts.run.path, "cpu")
        return lambda record: _of_skeleton(facts, predictor, record)
    try:
        localizer = Localizer(facts.run.path, "cpu")
    except RunError:
        return None
    return lambda record: _of_video(facts, localizer, record)


def _of_video(facts: RunFacts, localizer: Localizer, record: Record) -> str:
    """Frames in gray with the maps of the predicted class over them."""
    try:
        recording = facts.recipe.data.open(record)
        assert isinstance(recording, Video)
        with recording, warnings.catch_warnings():
            warnings.simplefilter("ignore", MuybridgeWarning)  # that maps are coarse is visible
            found = localizer(recording, record.id)
            numbers = np.unique(np.linspace(0, len(recording) - 1, _FRAMES).astype(int))
            pixels = recording.read(numbers.tolist(), _HEIGHT).pixels.expand(-1, 3, -1, -1)
            images, seconds = rearrange(pixels, "t c h w -> t h w c").numpy(), recording.duration
    except (DataError, RunError):  # a damaged recording, or a model without maps
        return ""
    heat = found.maps[torch.from_numpy(numbers)].numpy()
    return _image(heat_overlay(images, heat, float(heat.max())), seconds, record.id)


def _of_skeleton(facts: RunFacts, predictor: Predictor, record: Record) -> str:
    """The skeleton with the attention of its joints, above the curves over time."""
    takes, holds, model = predictor.recipe.model.takes(), predictor.recipe.data.holds(), predictor.model
    assert isinstance(takes, SkeletonInput)
    assert isinstance(holds, SkeletonData)
    assert isinstance(model, Model)
    model.return_maps = True
    try:
        recording = facts.recipe.data.open(record)
    except DataError:
        return ""
    assert isinstance(recording, SkeletonSequence)
    maps = predictor.forward(collate_inputs([predictor.prepare(recording)[0]])).maps
    alpha, beta, derivative = (maps[name][0].cpu() if name in maps else None for name in _MAPS)
    if alpha is None and beta is None and derivative is None:
        return ""
    clean = clean_skeleton(recording, takes, holds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.gif"
        animate_skeleton(clean, holds.layout, path, alpha=alpha, beta=beta, derivative=derivative)
        with Image.open(path) as film:
            count = getattr(film, "n_frames", 1)
            wanted = set(np.unique(np.linspace(0, count - 1, _FRAMES).astype(int)).tolist())
            pictures = [frame.convert("RGB") for at, frame in enumerate(ImageSequence.Iterator(film)) if at in wanted]
    for picture in pictures:
        picture.thumbnail((4 * _FIGURE_HEIGHT, _FIGURE_HEIGHT))
    return _image(np.stack([np.asarray(picture) for picture in pictures]), len(clean) / 30.0, record.id)


def _image(images: UInt8[np.ndarray, "T H W 3"], seconds: float, name: str) -> str:
    """An animated WebP image at the speed of the recording, but at least 8 frames a second; a bar shows the time."""
    pictures = [Image.fromarray(image) for image in images]
    for at, picture in enumerate(pictures, start=1):
        width, height = picture.size
        ImageDraw.Draw(picture).rectangle((0, height - 2, width * at / len(pictures), height), fill=(0, 114, 178))
    step = min(1000 / _FPS, 1000 * seconds / len(pictures))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=max(20, round(step)), loop=0, quality=55
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="film of {escape(name)} with what the model looks at" src="data:image/webp;base64,{data}">'
