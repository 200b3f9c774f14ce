"""The recipe itself: model, data, view, augmentation and training, and whether they match."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from muybridge.core.contracts import ClipInput, SkeletonData, SkeletonInput
from muybridge.core.errors import MuybridgeError, RecipeError
from muybridge.data.clip_ops import ClipAugment, eval_short_side
from muybridge.data.datasets import AnyDataset, Playback
from muybridge.data.feature_store import FeatureStore
from muybridge.data.prepare import COMPUTED, FeaturePreparation, FlowSource, Preparation, ViewConfig, preparation
from muybridge.data.skeleton_augment import SkeletonAugment
from muybridge.models import AnyModel
from muybridge.models.config import ModelConfig
from muybridge.recipe.training import FrozenModel, Precision, Stage, Train
from muybridge.recipe_schema import check_tree, refusal


class Expects(FrozenModel):
    """Expected accuracy.

    Attributes:
        top1: accuracy in percent.
        mean_class_accuracy: mean over classes of the accuracy in each, in percent, where that is what is published.
        tolerance: percentage points up or down within which a repetition still counts as the same.
        minutes: training time of one run on ``hardware``.
        hardware: the machine, in words.
        source: the command or publication the number comes from.
    """

    top1: float | None = None
    mean_class_accuracy: float | None = None
    tolerance: float = 2.0
    minutes: float | None = None
    hardware: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _has_accuracy(self) -> Self:
        if self.top1 is None and self.mean_class_accuracy is None:
            raise ValueError("[expects] needs top1 or mean_class_accuracy; leave it out where no accuracy is expected")
        return self


class Augment(FrozenModel):
    """Random changes of training samples, by kind of recording."""

    skeleton: SkeletonAugment | None = None
    clip: ClipAugment | None = None


class Recipe(FrozenModel):
    """One complete run.

    Attributes:
        title: one line that says what the recipe is for.
        model: which model, and its settings.
        data: which data set, and its protocol.
        view: which frames of a video are read and how they are cropped; None takes the defaults for video, and is the
            only choice for skeletons.
        flow: where optical flow comes from; None computes it, for models that take it.
        augment: random changes of training samples.
        train: how to train.
        expects: expected accuracy.
        reasons: why settings of a starting recipe have the values that they have, by dotted name.
    """

    title: str = ""
    model: AnyModel
    data: AnyDataset
    view: ViewConfig | None = None
    flow: FlowSource | None = None
    augment: Augment = Augment()
    train: Train = Train()
    expects: Expects | None = None
    reasons: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _kinds_match(self) -> Self:
        takes_skeletons = isinstance(self.model.takes(), SkeletonInput)
        if takes_skeletons != isinstance(self.data.holds(), SkeletonData):
            takes, holds = ("skeletons", "video") if takes_skeletons else ("video", "skeletons")
            raise ValueError(
                f"model {self.model.name!r} takes {takes}, but data set {self.data.name!r} holds {holds}; choose "
                "another of either"
            )
        of_video = {
            "[view]": self.view is not None,
            "[flow]": self.flow is not None,
            "[augment.clip]": self.augment.clip is not None,
            "train.mixup": self.train.mixup > 0,
            "train.cutmix": self.train.cutmix > 0,
        }
        if takes_skeletons and any(of_video.values()):
            table = next(table for table, given in of_video.items() if given)
            raise ValueError(f"{table} is for video, and model {self.model.name!r} takes skeletons; leave it out")
        if not takes_skeletons and self.augment.skeleton is not None:
            raise ValueError(
                f"[augment.skeleton] is for skeletons, and model {self.model.name!r} takes video; use [augment.clip]"
            )
        return self

    @model_validator(mode="after")
    def _settings_have_effect(self) -> Self:
        models = self._models()  # refuses wrong settings of stages
        if self.flow is not None and not any(map(_takes_flow, models)):
            raise ValueError(f"[flow] is for models that take optical flow, and {self.model.name!r} takes none here")
        takes = self.model.takes()
        if isinstance(takes, ClipInput) and takes.flow_bound is not None:
            self._flow_leads_from_frame_to_frame(takes.flow_bound)
        if self.view is not None and self.view.mode == "uniform" and self.view.stride > 1:
            raise ValueError('view.mode = "uniform" spreads the frames over the whole video; leave view.stride out')
        strided = self.view is not None and self.view.mode != "clips" and self.view.stride > 1
        if strided and isinstance(takes, ClipInput) and takes.frames_per_segment == 1:
            raise ValueError(
                f"view.stride lies between the frames of a window, and model {self.model.name!r} reads one of each "
                'segment; leave it out, or set view.mode = "clips"'
            )
        return self

    def _flow_leads_from_frame_to_frame(self, bound: float) -> None:
        flow = self.flow or COMPUTED
        if not flow.of_clips or flow.bound != bound:
            raise ValueError(
                f"model {self.model.name!r} follows points from each frame of a clip to the next, and needs "
                f'flow.between = "frames read" and flow.bound = {bound:g}'
            )

    @model_validator(mode="after")
    def _features_match(self) -> Self:
        view, augment = self.view or ViewConfig(), self.augment.clip
        if view.features is None:
            return self
        if not all(model.frozen_parts() for model in self._models()):
            raise ValueError(
                f"view.features holds the maps of a part that is not trained, and model {self.model.name!r} has none "
                'here; leave it out, or use video_lstm with train_backbone = false or drnn with input = "video"'
            )
        windows = any(part.window > 1 for model in self._models() for part in model.frozen_parts())
        if windows and (view.stride > 1 or view.mode not in ("windows", "segments")):
            raise ValueError(
                "view.features holds descriptors of consecutive frames of the video: leave view.stride out, and set "
                f'view.mode = "windows" (now stride = {view.stride}, mode = "{view.mode}")'
            )
        if view.crops != "center" or view.size or view.reverse:
            raise ValueError(
                'view.features holds one crop of each frame: set view.crops = "center" and view.size = 0, and leave '
                "view.reverse out"
            )
        if self.train.mixup or self.train.cutmix:
            raise ValueError("train.mixup and train.cutmix blend frames, and view.features holds none; set them to 0")
        if augment and augment.changes_pixels:
            raise ValueError(
                "[augment.clip] changes pixels, and view.features holds the CNN's maps of unchanged frames; leave it "
                'out, or change time alone: crop = "center", flip = 0, no color changes, and temporal_crop as you like'
            )
        return self

    @model_validator(mode="after")
    def _several_labels_are_possible(self) -> Self:
        if not self.data.multi_label():
            return self
        if not all(model.multi_label for model in self._models()):
            raise ValueError(
                f"with data.label_separator recordings have several labels, and model {self.model.name!r} chooses one "
                "class; choose sta_lstm, drnn, tsn, selfy or tdn"
            )
        if self.train.balance:
            raise ValueError(
                f'train.balance = "{self.train.balance}" is for recordings of one label, and data.label_separator says '
                "several; leave it out"
            )
        if self.view is not None and self.view.reverse:
            raise ValueError(
                "view.reverse swaps one label for another, and with data.label_separator there are several"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_applies(self) -> Self:
        name, start = self.model.name, f'train.warm_up = "{self.train.warm_up}"'
        if not self.train.warm_up:
            return self
        if not self.model.learns_features:
            raise ValueError(f"{start} is for networks, and of {name!r} only the classifier is trained; leave it out")
        if getattr(self.model, "pretrained", False):
            raise ValueError(
                f"{start} is in place of ImageNet weights, which model.pretrained = true takes; set "
                "model.pretrained = false (--no-pretrained), or leave train.warm_up out"
            )
        if self.model.frozen_parts():
            raise ValueError(
                f"{start} trains the whole network, and model {name!r} has a part that is never trained; leave "
                "train.warm_up out, or set model.train_backbone = true where the part is a CNN"
            )
        if getattr(self.model, "pca", 0):
            raise ValueError(
                f"{start} carries over what is learned about each feature, and model.pca mixes them in another way for "
                "every data set; set model.pca = 0, or leave train.warm_up out"
            )
        if isinstance(self.data, Playback):
            raise ValueError(
                f'{start} comes before a training on labels, and data set "playback" uses none; leave it out'
            )
        return self

    @model_validator(mode="after")
    def _playback_is_of_whole_recordings(self) -> Self:
        stored = {
            "view.features": self.view is not None and self.view.features is not None,
            "flow.folder": self.flow is not None and self.flow.folder is not None,
        }
        if isinstance(self.data, Playback) and self.train.balance:
            raise ValueError(
                f'train.balance = "{self.train.balance}" is for classes of uneven size, and "playback" draws its own '
                "evenly; leave it out"
            )
        if isinstance(self.data, Playback) and any(stored.values()):
            setting = next(setting for setting, given in stored.items() if given)
            raise ValueError(
                f'{setting} holds recordings as they are, and data set "playback" plays them backwards and faster; '
                "leave it out"
            )
        return self

    def _models(self) -> list[AnyModel]:
        """The model's configs in all stages."""
        return [self.model, *map(self.stage_model, self.train.stages)]

    def stage_model(self, stage: Stage) -> AnyModel:
        """The model's config in a stage."""
        return type(self.model).model_validate(self.model.model_dump() | stage.model)

    def resolved(self) -> "Recipe":
        """This recipe with everything written out that depends on the data and the kind of recording."""
        video = not isinstance(self.model.takes(), SkeletonInput)
        flow = any(map(_takes_flow, self._models()))
        resolved = {
            "data": self.data.resolved(),
            "view": (self.view or ViewConfig()).resolved() if video else None,
            "flow": (self.flow or COMPUTED).resolved() if flow else None,
        }
        return self.model_copy(update=resolved)

    @property
    def precision(self) -> Precision:
        """The number format to compute in: ``train.precision``, where "auto" is float32 if the model gains nothing."""
        if self.train.precision == "auto" and not self.model.gains_from_bfloat16:
            return "32-true"
        return self.train.precision

    def preparation(self, augment: bool = False, model: ModelConfig | None = None) -> Preparation:
        """What turns an opened recording into inputs of the model.

        Args:
            augment: whether training samples are prepared.
            model: the config of a stage, which may take less than the recipe's.
        """
        takes, view = (model or self.model).takes(), self.view or ViewConfig()
        changes = self.augment.skeleton or self.augment.clip if augment else None
        data, flow = self.data, self.flow or COMPUTED
        return preparation(takes, data.holds(), view, data.mirror(), changes, flow, data.reverse())

    def feature_metadata(self, model: ModelConfig) -> dict[str, dict[str, Any]]:
        """The settings that the maps of each frozen part of a model depend on, beside its weights."""
        takes, view, flow = model.takes(), self.view or ViewConfig(), self.flow or COMPUTED
        assert isinstance(takes, ClipInput)
        short_side = {"view.short_side": view.short_side or eval_short_side(takes.size)}
        shared = {"model.size": takes.size} | ({"view.resize": view.resize} if view.resize else short_side)
        shared |= {f"data.{name}": getattr(self.data, name) for name in ("name", *self.data.content_settings)}
        folder = flow.folder.name if flow.folder else None
        of_input = {
            "video": {"model.mean": takes.mean, "model.std": takes.std},
            "flow": {"flow.method": flow.method, "flow.bound": flow.bound, "flow.folder": folder},
        }
        if flow.of_clips and any(part.input == "flow" for part in model.frozen_parts()):
            raise RecipeError(
                'features of flow are kept for every frame, and flow.between = "frames read" depends on which are read',
                expected='flow.between = "consecutive frames"',
                hint="leave it out, or train without a feature store",
            )
        return {
            part.name: {f"model.{name}": value for name, value in part.settings.items()} | shared | of_input[part.input]
            for part in model.frozen_parts()
        }

    def feature_store(self, model: ModelConfig) -> FeatureStore | None:
        """The cached maps of a model's frozen parts, if the recipe names a feature store that has been made.

        Raises:
            DataError: there is no store, or its metadata says that the maps were computed with other settings.
        """
        if self.view is None or self.view.features is None or self.view.makes_features:
            return None
        outputs = {part.name: part.output for part in model.frozen_parts()}
        return FeatureStore(self.view.features, self.feature_metadata(model), outputs)

    def feature_preparation(self, augment: bool, model: ModelConfig) -> FeaturePreparation:
        """What turns a recording of a feature store into inputs of a model; with ``augment`` as for training."""
        takes, changes = model.takes(), self.augment.clip
        assert isinstance(takes, ClipInput)
        (window,) = {part.window for part in model.frozen_parts()}
        keep = changes.temporal_crop if augment and changes else 1.0
        return FeaturePreparation(takes, self.view or ViewConfig(), keep, window)

    def stages(self) -> tuple[Stage, ...]:
        """The stages to train: those of the recipe, or the recipe as a single one."""
        return self.train.stages or (Stage(name="main", epochs=self.train.epochs, init_from={**self.train.init_from}),)

    def with_settings(self, settings: Mapping[str, Any]) -> "Recipe":
        """A copy with settings replaced by dotted names, ``{"train.seed": 1}``; raises RecipeError for wrong ones."""
        return recipe_from(dump(self), settings)


def dump(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain TOML types, complete."""
    return recipe.model_dump(mode="json", exclude_none=True)


def flat_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe by dotted name, complete."""
    return _flat(recipe.model_dump(mode="json", exclude={"reasons"}, exclude_none=True), "")


def recipe_from(
    tree: Mapping[str, Any], settings: Mapping[str, Any] | None = None, where: str | Path | None = None
) -> Recipe:
    """A recipe from the tables of its file.

    Args:
        tree: the tables.
        settings: values by dotted names, which replace those of the tables.
        where: the file, for errors.

    Raises:
        RecipeError: an unknown setting, a wrong value, or a model and a data set that do not match; the message names
            the file or the ``--set`` at fault.
    """
    settings = settings or {}
    merged = check_tree(tree, settings, where)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        own = settings if _is_valid(tree) else {}  # where the file by itself is valid, the settings are at fault
        raise refusal([_describe(problem, merged) for problem in error.errors(include_url=False)], own, where) from None


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _is_valid(tree: Mapping[str, Any]) -> bool:
    try:
        Recipe.model_validate(tree)
    except (ValidationError, MuybridgeError):  # a starting recipe names no recordings that are there
        return False
    return True


def _describe(problem: Any, tree: Mapping[str, Any]) -> str:
    """One of pydantic's validation errors in words, with the dotted name of the setting."""
    steps: list[str] = []
    table: Any = tree
    for step in map(str, problem["loc"]):
        # Pydantic puts the chosen member of a union into the path; the file has no such level.
        if isinstance(table, Mapping) and step not in table and step == table.get("name"):
            continue
        steps.append(step)
        table = table.get(step, {}) if isinstance(table, Mapping) else {}
    name = ".".join(steps) or "recipe"
    if problem["type"] == "missing":
        return f"{name} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" + ("" if problem["type"] == "value_error" else f", got {problem['input']!r}")


def _takes_flow(model: ModelConfig) -> bool:
    takes = model.takes()
    return isinstance(takes, ClipInput) and takes.flow
