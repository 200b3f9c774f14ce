"""A recipe joins a model to data and says how to train: one TOML file is one run."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from muybridge.core.contracts import ClipInput, SkeletonData, SkeletonInput
from muybridge.core.errors import RecipeError
from muybridge.data.clip_ops import ClipAugment, eval_short_side
from muybridge.data.datasets import AnyDataset
from muybridge.data.feature_store import FeatureStore
from muybridge.data.prepare import COMPUTED, FeaturePreparation, FlowSource, Preparation, ViewConfig, preparation
from muybridge.data.skeleton_augment import SkeletonAugment
from muybridge.models import AnyModel
from muybridge.models.base import ModelConfig


class FrozenModel(BaseModel):
    """A noun of the recipe: cannot be changed, refuses knobs it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SGD(FrozenModel):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0


class Adam(FrozenModel):
    """Adam, whose weight decay is added to the gradient (L2 regularization)."""

    name: Literal["adam"] = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0


class AdamW(FrozenModel):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0


class RMSprop(FrozenModel):
    """RMSprop."""

    name: Literal["rmsprop"] = "rmsprop"
    lr: float = 1e-3
    alpha: float = 0.9
    eps: float = 1e-6
    weight_decay: NonNegativeFloat = 0.0


AnyOptimizer = Annotated[SGD | Adam | AdamW | RMSprop, Field(discriminator="name")]


class ParameterGroup(FrozenModel):
    """Parameters with their own learning rate or weight decay.

    Attributes:
        match: "norm" for all parameters of normalization layers; "bias" for the biases of all other layers; otherwise a
            prefix of parameter names.
        lr_mult: factor of the learning rate.
        decay_mult: factor of the weight decay; 0 turns weight decay off.
    """

    match: str
    lr_mult: NonNegativeFloat = 1.0
    decay_mult: NonNegativeFloat = 1.0


class Schedule(FrozenModel):
    """Learning rate schedule.

    Attributes:
        name: "constant"; "step" multiplies by ``gamma`` at each milestone; "cosine" decays to ``min_factor`` times the
            initial learning rate.
        milestones: epochs, for "step".
        gamma: factor at each milestone, for "step".
        min_factor: final learning rate as a share of the initial one, for "cosine".
        warmup_epochs: the learning rate first increases linearly over this many epochs.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    min_factor: NonNegativeFloat = 0.0
    warmup_epochs: NonNegativeFloat = 0.0


class SourceRun(FrozenModel):
    """A finished run whose parameters another training starts from.

    Attributes:
        run: its folder.
        prefix: how the parameters' names begin there, in place of how they begin here; unless given, they are the same.
        average_channels: where a convolution has another number of input channels, every channel takes the mean of the
            filters over theirs, as RGB filters are carried over to optical flow.
        checksum: of that run's weights; a run folder says which they were.
    """

    run: Path
    prefix: str | None = None
    average_channels: bool = False
    checksum: str = ""


class Stage(FrozenModel):
    """One part of a training in stages, each with a fresh optimizer.

    Attributes:
        name: unique in the recipe; its weights are kept under this name.
        model: knobs of the model that differ in this stage.
        init_from: parameters that are initialized from an earlier stage, as {prefix of parameter names: stage}, or from
            another run, as {prefix: { run = "runs/other" }}; the prefix "" matches all. All others are new.
        freeze: prefixes of parameter names that do not learn in this stage.
        epochs: passes over the training set; give this or ``iterations``.
        iterations: optimizer steps.
        optimizer, schedule: in place of those of ``train``.
    """

    name: str
    model: dict[str, Any] = {}
    init_from: dict[str, str | SourceRun] = {}
    freeze: tuple[str, ...] = ()
    epochs: PositiveInt | None = None
    iterations: PositiveInt | None = None
    optimizer: AnyOptimizer | None = None
    schedule: Schedule | None = None


class Train(FrozenModel):
    """Training settings.

    Attributes:
        epochs: passes over the training set; ignored with ``stages``, which have their own.
        init_from: parameters that are initialized from other runs, as {prefix of their names: { run = "runs/other" }};
            with ``stages``, give it in the stage.
        batch_size: samples per optimizer step, over all processes together.
        accumulate_steps: number of parts a batch is split into, whose gradients are accumulated, when it does not fit
            into memory.
        optimizer: see below.
        schedule: learning rate schedule, see below.
        param_groups: parameters with another learning rate or weight decay, such as
            ``{ match = "bias", decay_mult = 0 }``; a parameter belongs to the first group that matches.
        clip_grad_norm: maximum L2 norm of the gradient; 0 does not clip.
        label_smoothing: share of the label's probability that is spread over all classes.
        mixup: blend each clip of a batch with another one, and their labels alike; the share is drawn once per batch
            from Beta(mixup, mixup). 0 turns it off.
        cutmix: replace a box of each clip, through all its frames, by that of another clip, and blend labels by area;
            the area is drawn from Beta(cutmix, cutmix). With both, each batch uses one or the other.
        partial_bn: freeze all batch normalization layers but the first (TSN); for small batches of few videos.
        ema_decay: decay of the exponential moving average of the weights, which is then tested and saved; 0 uses the
            weights themselves.
        precision: number format of the computation, as Lightning Fabric names it.
        compile: use torch.compile: takes minutes at the start, which a long training on a GPU gains back.
        seed: all random numbers of the run derive from it; those of sample i in epoch e from (seed, e, i) alone.
        num_workers: processes that load and prepare samples; 0 uses the training process. Never changes a result.
        checkpoint: which weights become the run's: those of the "last" epoch, or of the epoch with the "best" top-1 on
            ``val``.
        val_interval: epochs between validations, where there is a ``val`` split.
        save_seconds: a killed process loses at most this many seconds of work.
        on_error: whether a training recording that cannot be read stops the training ("raise"), or is skipped, counted
            and listed in the run folder ("skip"); above 1 % the training stops all the same. Nothing is ever skipped in
            testing.
        stages: parts of the training, in order; empty trains once with the settings above.
    """

    epochs: PositiveInt = 50
    init_from: dict[str, SourceRun] = {}
    batch_size: PositiveInt = 16
    accumulate_steps: PositiveInt = 1
    optimizer: AnyOptimizer = AdamW()
    schedule: Schedule = Schedule()
    param_groups: tuple[ParameterGroup, ...] = ()
    clip_grad_norm: NonNegativeFloat = 0.0
    label_smoothing: NonNegativeFloat = 0.0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    partial_bn: bool = False
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    seed: NonNegativeInt = 0
    num_workers: NonNegativeInt = 0
    checkpoint: Literal["last", "best"] = "last"
    val_interval: PositiveInt = 1
    save_seconds: NonNegativeFloat = 30.0
    on_error: Literal["raise", "skip"] = "raise"
    stages: tuple[Stage, ...] = ()

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        seen: set[str] = set()
        if self.stages and self.init_from:
            raise ValueError(
                "with stages, give init_from in the stage; train.init_from is for a training without stages"
            )
        for stage in self.stages:
            if stage.name in seen or not stage.name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"stage names must be unique words, and {stage.name!r} is not")
            for source in stage.init_from.values():
                if isinstance(source, str) and source not in seen:
                    raise ValueError(f"stage {stage.name!r} takes from {source!r}, which is no earlier stage")
            if (stage.epochs is None) == (stage.iterations is None):
                raise ValueError(f"stage {stage.name!r} needs either epochs or iterations")
            seen.add(stage.name)
        return self


class Expects(FrozenModel):
    """What the recipe promises.

    Attributes:
        top1: accuracy in percent.
        mean_class_accuracy: mean over classes of the accuracy in each, in percent, where that is what is published.
        tolerance: points up or down within which a repetition still counts as the same.
        minutes: training time of one run on ``hardware``.
        source: the command or publication the number comes from.
    """

    top1: float | None = None
    mean_class_accuracy: float | None = None
    tolerance: float = 2.0
    minutes: float | None = None
    hardware: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.top1 is None and self.mean_class_accuracy is None:
            raise ValueError("[expects] needs top1 or mean_class_accuracy; leave it out where nothing is promised")
        return self


class Augment(FrozenModel):
    """Random changes of training samples, by kind of recording."""

    skeleton: SkeletonAugment | None = None
    clip: ClipAugment | None = None


class Recipe(FrozenModel):
    """One complete run: model, data, view, augmentation, training, promise.

    Attributes:
        title: one line that says what the recipe is for.
        view: how videos are looked at; None takes the defaults for video, and says nothing about skeletons.
        flow: where optical flow comes from; None computes it, for models that take it.
    """

    title: str = ""
    model: AnyModel
    data: AnyDataset
    view: ViewConfig | None = None
    flow: FlowSource | None = None
    augment: Augment = Augment()
    train: Train = Train()
    expects: Expects | None = None

    @model_validator(mode="after")
    def _marriage(self) -> Self:
        takes, holds = self.model.takes(), self.data.holds()
        if isinstance(takes, SkeletonInput) != isinstance(holds, SkeletonData):
            kinds = {True: "skeletons", False: "video"}
            raise ValueError(
                f"model {self.model.name!r} takes {kinds[isinstance(takes, SkeletonInput)]}, but data set "
                f"{self.data.name!r} holds {kinds[isinstance(holds, SkeletonData)]}; choose another of either"
            )
        skeletons = isinstance(takes, SkeletonInput)
        given = {
            "[view]": self.view is not None,
            "[flow]": self.flow is not None,
            "[augment.clip]": self.augment.clip is not None,
            "train.mixup": self.train.mixup > 0,
            "train.cutmix": self.train.cutmix > 0,
        }
        if skeletons and any(given.values()):
            table = next(table for table in given if given[table])
            raise ValueError(f"{table} is for video, and model {self.model.name!r} takes skeletons; leave it out")
        if not skeletons and self.augment.skeleton is not None:
            raise ValueError(
                f"[augment.skeleton] is for skeletons, and model {self.model.name!r} takes video; use [augment.clip]"
            )
        models = [self.model, *map(self.stage_model, self.train.stages)]
        if self.flow is not None and not any(_takes_flow(model) for model in models):
            raise ValueError(f"[flow] is for models that take optical flow, and {self.model.name!r} takes none here")
        of_segments = self.view is not None and self.view.mode != "clips" and self.view.stride > 1
        if of_segments and isinstance(takes, ClipInput) and takes.frames_per_segment == 1:
            raise ValueError(
                f"view.stride lies between the frames of a window, and model {self.model.name!r} reads one of each "
                'segment; leave it out, or take view.mode = "clips"'
            )
        return self

    @model_validator(mode="after")
    def _features_fit(self) -> Self:
        view, changes = self.view or ViewConfig(), self.augment.clip
        if view.features is None:
            return self
        models = [self.model, *map(self.stage_model, self.train.stages)]
        if not all(model.frozen_parts() for model in models):
            raise ValueError(
                f"view.features keeps what a frozen CNN makes of single frames, and model {self.model.name!r} has none "
                "here; leave it out, or take video_lstm with train_backbone = false"
            )
        if view.crops != "center" or view.size or view.reverse:
            raise ValueError(
                'view.features holds one crop of each frame: take view.crops = "center" and view.size = 0, and leave '
                "view.reverse out"
            )
        if self.train.mixup or self.train.cutmix:
            raise ValueError("train.mixup and train.cutmix blend frames, and view.features holds none; set them to 0")
        coloured = changes and (changes.brightness or changes.contrast or changes.saturation or changes.hue)
        if changes and (changes.crop != "center" or changes.flip or coloured or changes.grayscale or changes.reverse):
            raise ValueError(
                "[augment.clip] changes pixels, and view.features holds what the CNN made of them as they are; leave "
                'it out, or change time alone: crop = "center", flip = 0, no colours, and temporal_crop as you like'
            )
        return self

    def stage_model(self, stage: Stage) -> AnyModel:
        """The model's config as a stage trains it."""
        changed = self.model.model_dump() | stage.model
        return type(self.model).model_validate(changed)

    def resolved(self) -> "Recipe":
        """This recipe with everything written out that reading the data and the kind of recording tell."""
        video = not isinstance(self.model.takes(), SkeletonInput)
        flows = any(_takes_flow(model) for model in (self.model, *map(self.stage_model, self.train.stages)))
        found = {
            "data": self.data.resolved(),
            "view": (self.view or ViewConfig()).resolved() if video else None,
            "flow": (self.flow or COMPUTED).resolved() if flows else None,
        }
        return self.model_copy(update=found)

    def preparation(self, augment: bool = False, model: ModelConfig | None = None) -> Preparation:
        """What turns an opened recording into inputs of the model; with ``augment`` as training samples are.

        Args:
            augment: whether training samples are prepared.
            model: that of a stage, which may take less than the recipe's.
        """
        takes, view = (model or self.model).takes(), self.view or ViewConfig()
        changes = self.augment.skeleton or self.augment.clip if augment else None
        data, flow = self.data, self.flow or COMPUTED
        return preparation(takes, data.holds(), view, data.mirror(), changes, flow, data.reverse())

    def feature_metadata(self, model: ModelConfig) -> dict[str, dict[str, Any]]:
        """What the maps of each frozen part of a model depend on, beside its weights, by the names of knobs."""
        takes, view, flow = model.takes(), self.view or ViewConfig(), self.flow or COMPUTED
        assert isinstance(takes, ClipInput)
        sides = {"view.short_side": view.short_side or eval_short_side(takes.size)}
        shown = {"model.size": takes.size} | ({"view.resize": view.resize} if view.resize else sides)
        shown |= {f"data.{knob}": getattr(self.data, knob) for knob in ("name", *self.data.content_settings)}
        folder = flow.folder.name if flow.folder else None
        read = {
            "video": {"model.mean": takes.mean, "model.std": takes.std},
            "flow": {"flow.method": flow.method, "flow.bound": flow.bound, "flow.folder": folder},
        }
        return {
            part.name: {f"model.{knob}": value for knob, value in part.settings.items()} | shown | read[part.input]
            for part in model.frozen_parts()
        }

    def feature_store(self, model: ModelConfig) -> FeatureStore | None:
        """Where a model's frozen parts need not be asked, if the recipe names such a place.

        Raises:
            DataError: there is no store, or its stamp says that the maps were made otherwise.
        """
        if self.view is None or self.view.features is None:
            return None
        gives = {part.name: part.output for part in model.frozen_parts()}
        return FeatureStore(self.view.features, self.feature_metadata(model), gives)

    def feature_preparation(self, augment: bool, model: ModelConfig) -> FeaturePreparation:
        """What turns a recording of a feature store into inputs of a model; with ``augment`` as for training."""
        takes, changes = model.takes(), self.augment.clip
        assert isinstance(takes, ClipInput)
        return FeaturePreparation(
            takes, self.view or ViewConfig(), changes.temporal_crop if augment and changes else 1.0
        )

    def stages(self) -> tuple[Stage, ...]:
        """The stages to train: those of the recipe, or the whole recipe as one."""
        return self.train.stages or (Stage(name="main", epochs=self.train.epochs, init_from={**self.train.init_from}),)

    def with_settings(self, settings: Mapping[str, Any], where: str | None = None) -> "Recipe":
        """A copy with dotted knobs replaced, ``{"train.seed": 1}``; raises RecipeError for unknown ones."""
        return _validate(_merge(dump(self), settings), where)


def _takes_flow(model: ModelConfig) -> bool:
    takes = model.takes()
    return isinstance(takes, ClipInput) and takes.flow


def load_recipe(source: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        source: a TOML file, or the name of a recipe that comes with the package.
        settings: dotted knobs to replace, as ``--set`` gives them.

    Raises:
        RecipeError: no such recipe, not TOML, unknown or wrong knobs, or a model married to the wrong data.
    """
    path = Path(source)
    if not path.is_file():
        path = shipped_recipes().get(str(source).removesuffix(".toml"), path)
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, shipped_recipes(), n=3)
        raise RecipeError(
            "no such recipe",
            expected="a TOML file or the name of a shipped recipe",
            hint=f"did you mean {' or '.join(near)}?" if near else "list the shipped ones with `muybridge recipes`",
            where=source,
        )
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise RecipeError(
            f"not readable as TOML ({problem})", expected="a TOML file", hint="mend it", where=path
        ) from None
    return _validate(_merge(tree, settings or {}), str(path))


def recipe_of(tree: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from the tables of its file; raises RecipeError as :func:`load_recipe` does."""
    return _validate(_merge(tree, settings or {}), None)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    here = Path(__file__).parent
    # In a wheel the recipes lie inside the package; in a checkout they lie at its root.
    for folder in (here / "recipes", here.parents[1] / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def folder_recipe(model: str, root: Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The starting recipe of a model for a folder of the user's own."""
    return load_recipe(_starter_path(model), {"data.root": str(root.resolve())} | dict(settings or {}))


def starter(model: str, root: Path | None) -> str:
    """The text of a commented recipe to start from; raises RecipeError for an unknown model."""
    text = _starter_path(model).read_text(encoding="utf-8")
    return text if root is None else re.sub(r'(?m)^root = ".*?"', f"root = {json.dumps(str(root.resolve()))}", text)


def _starter_path(model: str) -> Path:
    known = {
        name.removeprefix("folder_"): path for name, path in shipped_recipes().items() if name.startswith("folder_")
    }
    if model not in known:
        raise RecipeError(f"no model {model!r}", expected=f"one of {', '.join(known)}", hint="see `muybridge models`")
    return known[model]


def dump(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain TOML types, complete."""
    return recipe.model_dump(mode="json", exclude_none=True)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe, complete, as TOML."""
    path.write_text(tomli_w.dumps(dump(recipe)), encoding="utf-8")


def parse_settings(words: Iterable[str]) -> dict[str, Any]:
    """``["train.seed=1", "model.name=drnn"]`` as dotted knobs; a value is TOML, or else plain text."""
    settings: dict[str, Any] = {}
    for word in words:
        knob, equals, text = word.partition("=")
        if not equals or not knob:
            raise RecipeError(f"--set {word}", expected="KNOB=VALUE, such as train.seed=1", hint="write it so")
        try:
            settings[knob.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[knob.strip()] = text
    return settings


def _merge(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for knob, value in settings.items():
        head, _, rest = knob.partition(".")
        below = merged.get(head)
        merged[head] = _merge(below if isinstance(below, Mapping) else {}, {rest: value}) if rest else value
    return merged


def _validate(tree: Mapping[str, Any], where: str | None) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as problems:
        said = [_say(problem, tree) for problem in problems.errors(include_url=False)]
        raise RecipeError(
            "; ".join(said),
            expected="the knobs and values of the recipe format",
            hint="mend the recipe or the --set; docs/recipes.md lists every knob",
            where=where,
        ) from None


def _say(problem: Any, tree: Mapping[str, Any]) -> str:
    """One validation problem in words, with the nearest known knob for a misspelt one."""
    place = [str(step) for step in problem["loc"]]
    # Pydantic puts the chosen member of a union into the path; the file has no such level.
    steps, at = [], tree
    for step in place:
        if isinstance(at, Mapping) and step not in at and step == at.get("name"):
            continue
        steps.append(step)
        at = at.get(step, {}) if isinstance(at, Mapping) else {}
    knob = ".".join(steps) or "recipe"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(steps[-1], _known_knobs(), n=1)
        return f"unknown knob {knob}" + (f" (did you mean {near[0]}?)" if near else "")
    if problem["type"] == "missing":
        return f"{knob} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{knob}: {message}" + ("" if problem["type"] == "value_error" else f", got {problem['input']!r}")


def _known_knobs() -> set[str]:
    """Every knob name anywhere in the recipe format."""
    schema = Recipe.model_json_schema()
    tables = [schema, *schema.get("$defs", {}).values()]
    return {knob for table in tables for knob in table.get("properties", {})}
