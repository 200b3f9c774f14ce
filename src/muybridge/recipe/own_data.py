"""Settings of a starting recipe that follow from the user's own recordings, each with its reason.

The rules were chosen on small subsets of the training people of three benchmarks; ``benchmarks/small_data.py`` measures
them.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from muybridge.core.contracts import ClipInput, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig
from muybridge.media.video import Video
from muybridge.models.config import ClipModelConfig
from muybridge.models.video_lstm import VideoLSTMConfig
from muybridge.nn.backbones import weights_are_at_hand
from muybridge.recipe.recipe import Recipe, flat_settings

SKELETON_STEPS = 900
"""Optimizer steps after which recurrent networks no longer gain on small data sets."""

VIDEO_STEPS = {True: 600, False: 1500}
"""Likewise for networks on video, from ImageNet weights and from random ones."""

MAX_EPOCHS = 300
"""More passes over a handful of recordings gain nothing."""

SMALL_SIZE = {True: 112, False: 64}
"""Height and width of the network's frames where larger ones would take too long, with ImageNet weights and without."""

_SAMPLE = 8  # videos whose frame size is read


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting that follows from the recordings.

    Attributes:
        setting: dotted name.
        value: of the setting.
        reason: which fact of the data it follows from.
    """

    setting: str
    value: Any
    reason: str


def adapted(recipe: Recipe, given: Mapping[str, Any], earlier: Recipe | None = None) -> Recipe:
    """A starting recipe with the settings that follow from its recordings, and the reasons in ``reasons``.

    Args:
        recipe: a starting recipe with the user's data.
        given: settings of the user's by dotted name, which stay as they are.
        earlier: the recipe of a run that is resumed, whose choices are taken over.

    Raises:
        DataError: the recordings cannot be read.
    """
    choices = choose_settings(recipe, given) if earlier is None else _choices_of(earlier)
    kept = [choice for choice in choices if not _is_given(choice.setting, given)]
    changed = recipe.with_settings({choice.setting: choice.value for choice in kept}) if kept else recipe
    return changed.model_copy(update={"reasons": {choice.setting: choice.reason for choice in kept}})


def _choices_of(recipe: Recipe) -> list[Choice]:
    values = flat_settings(recipe)
    return [Choice(setting, values[setting], reason) for setting, reason in recipe.reasons.items()]


def choose_settings(recipe: Recipe, given: Mapping[str, Any]) -> list[Choice]:
    """The settings of a starting recipe that follow from its recordings and from the user's own settings.

    Raises:
        DataError: the recordings cannot be read.
    """
    records, holds = recipe.data.index("train").records, recipe.data.holds()
    if isinstance(holds, SkeletonData):
        unturned = _is_given("model.face_partner", given) and not flat_settings(recipe)["model.face_partner"]
        choices = _skeleton_choices(holds, turned=not unturned)
        return [*choices, *_length_choices(recipe, len(records), SKELETON_STEPS)]
    if not isinstance(recipe.model, ClipModelConfig | VideoLSTMConfig):
        return []
    wanted = _is_given("model.pretrained", given)
    pretrained = recipe.model.pretrained and (wanted or weights_are_at_hand(recipe.model.backbone))
    choices = [*_frame_choices(recipe, records, pretrained), *_start_choices(recipe, pretrained)]
    return [*choices, *_length_choices(recipe, len(records), VIDEO_STEPS[pretrained])]


def _length_choices(recipe: Recipe, recordings: int, steps: int) -> list[Choice]:
    """Epochs by optimizer steps: a pass over few recordings is few steps."""
    each = math.ceil(recordings / recipe.train.batch_size)
    epochs = min(MAX_EPOCHS, math.ceil(steps / each))
    if epochs <= recipe.train.epochs or recipe.train.stages:
        return []
    facts = f"{recordings} training recordings are {each} {'step' if each == 1 else 'steps'} an epoch"
    return [Choice("train.epochs", epochs, f"{facts}; this makes {epochs * each}")]


def _skeleton_choices(holds: SkeletonData, *, turned: bool) -> list[Choice]:
    """Input by the number of people, random changes by the number of coordinates.

    Args:
        holds: what the recordings are.
        turned: whether people who face each other may be turned, after which random turns change nothing.
    """
    choices: list[Choice] = []
    if holds.people > 1:
        people = f"up to {holds.people} people are seen"
        choices = [
            Choice("model.features", ("position", "movement"), f"{people}, whose places to each other matter"),
            Choice("augment.skeleton.swap_people", 0.5, f"{people}, in no order that means anything"),
        ]
        if holds.coordinates == 3 and turned:
            choices.append(Choice("model.face_partner", True, f"{people}: turned so that the first faces the second"))
            choices.append(Choice("augment.skeleton.rotate", 0.0, "model.face_partner undoes turns"))
    if holds.coordinates == 2:
        choices.append(Choice("augment.skeleton.tilt", 10.0, "in 2-D there is no turn about the vertical"))
    return choices


def _frame_choices(recipe: Recipe, records: Sequence[Record], pretrained: bool) -> list[Choice]:
    """Frame size by what the videos have and what the processor can do in reasonable time."""
    takes = recipe.model.takes()
    assert isinstance(takes, ClipInput)
    sides = sorted(_short_sides(recipe.data, records))
    side, small = sides[len(sides) // 2] if sides else takes.size, SMALL_SIZE[pretrained]
    if side < min(takes.size, small):
        return [Choice("model.size", max(32, side // 16 * 16), f"the short side of the videos is {side} pixels")]
    if takes.size > small and not torch.cuda.is_available():
        times = round((takes.size / small) ** 2)
        return [
            Choice("model.size", small, f"there is no GPU, and {takes.size} pixels would take {times} times as long")
        ]
    return []


def _short_sides(data: DatasetConfig, records: Sequence[Record]) -> list[int]:
    """The smaller of height and width of some of the videos; those that cannot be read are reported later."""
    sides = []
    for record in islice(records, 0, None, max(1, len(records) // _SAMPLE)):
        with suppress(DataError):
            video = data.open(record)
            assert isinstance(video, Video)
            with video:
                sides.append(min(video.size))
    return sides


def _start_choices(recipe: Recipe, pretrained: bool) -> list[Choice]:
    """What networks need that start from random weights."""
    if pretrained:
        return []
    choices = []
    if recipe.model.model_dump()["pretrained"]:
        cause = "the ImageNet weights are not in the cache, and the hub cannot be reached"
        choices = [Choice("model.pretrained", False, cause)]
    if isinstance(recipe.model, ClipModelConfig):
        choices += [
            Choice("train.optimizer.lr", 1e-3, "random weights take a higher learning rate"),
            Choice("train.mixup", 0.2, "blended videos are more videos to learn from, for random weights"),
            Choice("view.clips", 3, "three views of each video are averaged in testing"),
        ]
    return choices


def _is_given(setting: str, given: Mapping[str, Any]) -> bool:
    """Whether the user gave a setting, or a table that contains it."""
    return any(setting == name or setting.startswith(f"{name}.") for name in given)
