"""Settings of the training: optimizer, learning rate, stages, weights to start from."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

Precision = Literal["auto", "32-true", "64-true", "bf16-mixed", "16-mixed"]
"""A number format, as Lightning Fabric names it; "auto" chooses."""


class FrozenModel(BaseModel):
    """A table of the recipe: immutable, and refuses unknown settings."""

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
        prefix: of the parameters' names in that run; unless given, the same as here.
        average_channels: where a convolution has another number of input channels, every channel takes the mean of the
            filters over theirs, as RGB filters are carried over to optical flow.
        checksum: of that run's weights; written out by the training, so that a run folder says which they were.
    """

    run: Path
    prefix: str | None = None
    average_channels: bool = False
    checksum: str = ""


class Stage(FrozenModel):
    """One part of a training in stages, each with a fresh optimizer.

    Attributes:
        name: unique in the recipe; its weights are saved under this name.
        model: settings of the model that differ in this stage.
        init_from: parameters that are initialized from an earlier stage, as {prefix of parameter names: stage}, or from
            another run, as {prefix: { run = "runs/other" }}; the prefix "" matches all. All others are new.
        freeze: prefixes of the names of parameters that are not trained in this stage.
        epochs: passes over the training set; give this or ``iterations``. 0 keeps the weights that the stage begins
            with.
        iterations: optimizer steps.
        optimizer, schedule: in place of those of ``train``.
    """

    name: str
    model: dict[str, Any] = {}
    init_from: dict[str, str | SourceRun] = {}
    freeze: tuple[str, ...] = ()
    epochs: NonNegativeInt | None = None
    iterations: PositiveInt | None = None
    optimizer: AnyOptimizer | None = None
    schedule: Schedule | None = None


class Train(FrozenModel):
    """Training settings.

    Attributes:
        epochs: passes over the training set; ignored with ``stages``, which have their own. 0 is for models whose
            weights are solved for, such as the linear one, and keeps the weights that a training begins with.
        init_from: parameters that are initialized from other runs, as {prefix of their names: { run = "runs/other" }};
            with ``stages``, give it in the stage.
        warm_up: a start where there are no ImageNet weights: a short training before this one, from which all
            parameters but the classifier's are taken. It is on generated movement ("synthetic": moving shapes, or stick
            figures with the joints of the recordings), or on the training recordings without their labels ("self":
            which way and how fast is one played). It is kept in the user's cache and trained once; "" does without.
        batch_size: samples per optimizer step, over all processes together.
        accumulate_steps: number of parts a batch is split into, whose gradients are accumulated, when it does not fit
            into memory.
        optimizer: see below.
        schedule: learning rate schedule, see below.
        param_groups: parameters with another learning rate or weight decay, such as
            ``{ match = "bias", decay_mult = 0 }``; a parameter belongs to the first group that matches.
        clip_grad_norm: maximum L2 norm of the gradient; 0 does not clip.
        label_smoothing: share of the label's probability that is spread over all classes; of several labels, over both
            answers, there or not.
        balance: for classes of uneven size: "sampler" draws samples of small classes more often and those of large ones
            less often, as many as there are in each epoch; "loss" weighs the loss of each sample by its class. Both by
            the effective number of samples (Cui et al., CVPR 2019), mirrored and reversed labels counted as expected.
            "" takes classes as they are.
        balance_beta: 0 leaves classes as they are, and close to 1 all of them count alike; a class of n recordings
            counts (1 - beta) / (1 - beta^n).
        focal_gamma: multiplies the loss of a class of probability p by (1 - p)^gamma, so that what is learned already
            counts less (focal loss, Lin et al., ICCV 2017); 0 turns it off.
        mixup: blend each clip of a batch with another one, and their labels alike; the share is drawn once per batch
            from Beta(mixup, mixup). 0 turns it off.
        cutmix: replace a box of each clip, through all its frames, by that of another clip, and blend labels by area;
            the area is drawn from Beta(cutmix, cutmix). With both, each batch uses one or the other.
        partial_bn: freeze all batch normalization layers but the first (TSN); for small batches of few videos.
        ema_decay: decay of the exponential moving average of the weights, which is then tested and saved; 0 uses the
            weights themselves.
        precision: number format of the computation, as Lightning Fabric names it; "auto" is "bf16-mixed" where the
            processor or GPU computes in bfloat16, else "32-true"; that is what dRNN over skeletons always has, as
            bfloat16 makes it no faster.
        compile: use torch.compile: takes minutes at the start, which a long training on a GPU gains back.
        seed: all random numbers of the run derive from it; those of sample i in epoch e from (seed, e, i) alone.
        strategy: what several processes share: with "ddp" each keeps all parameters, and gradients are averaged; with
            "fsdp" each keeps its share of parameters, gradients and optimizer state between steps, for networks that
            would not fit otherwise. Without effect on one process; a training resumes with the other one too.
        num_workers: processes that load and prepare samples; 0 uses the training process. Never changes a result.
        checkpoint: which weights become the run's: those of the "last" epoch, or of the epoch with the "best" top-1 on
            ``val``.
        val_interval: epochs between validations, where there is a ``val`` split.
        save_seconds: a killed process loses at most this many seconds of work.
        on_error: whether a training recording that cannot be read stops the training ("raise"), or is skipped, counted
            and listed in the run folder ("skip"); above 1 % the training stops all the same. Nothing is ever skipped in
            testing.
        loggers: other tools that are told of each epoch, beside the journal: "tensorboard", "wandb" (Weights & Biases),
            "csv" (``metrics.csv`` in the run folder).
        stages: parts of the training, in order; empty trains once with the settings above.
    """

    epochs: NonNegativeInt = 50
    init_from: dict[str, SourceRun] = {}
    warm_up: Literal["", "synthetic", "self"] = ""
    batch_size: PositiveInt = 16
    accumulate_steps: PositiveInt = 1
    optimizer: AnyOptimizer = AdamW()
    schedule: Schedule = Schedule()
    param_groups: tuple[ParameterGroup, ...] = ()
    clip_grad_norm: NonNegativeFloat = 0.0
    label_smoothing: NonNegativeFloat = 0.0
    balance: Literal["", "sampler", "loss"] = ""
    balance_beta: float = Field(default=0.999, ge=0.0, lt=1.0)
    focal_gamma: NonNegativeFloat = 0.0
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    partial_bn: bool = False
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    precision: Precision = "auto"
    compile: bool = False
    seed: NonNegativeInt = 0
    strategy: Literal["ddp", "fsdp"] = "ddp"
    num_workers: NonNegativeInt = 0
    checkpoint: Literal["last", "best"] = "last"
    val_interval: PositiveInt = 1
    save_seconds: NonNegativeFloat = 30.0
    on_error: Literal["raise", "skip"] = "raise"
    loggers: tuple[Literal["tensorboard", "wandb", "csv"], ...] = ()
    stages: tuple[Stage, ...] = ()

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.warm_up and self.stages:
            raise ValueError(
                f'warm_up = "{self.warm_up}" is for a training without stages; leave it out, or set init_from of the '
                "first stage to a run that was trained on other data"
            )
        if self.warm_up and not all(source.checksum for source in self.init_from.values()):  # a training writes it
            raise ValueError(
                f'warm_up = "{self.warm_up}" and init_from both say where the parameters start; leave one of them out'
            )
        return self

    @model_validator(mode="after")
    def _strategy_fits(self) -> Self:
        if self.strategy == "fsdp" and self.compile:
            raise ValueError('strategy = "fsdp" with compile = true is not supported; leave one of them out')
        if self.strategy == "fsdp" and self.precision in ("64-true", "16-mixed"):
            raise ValueError(
                f'strategy = "fsdp" computes in "32-true" or "bf16-mixed", and precision is "{self.precision}"; set '
                'one of these, or "auto", which is one of them'
            )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        seen: set[str] = set()
        if self.stages and self.init_from:
            raise ValueError(
                "with stages, give init_from in the stage; train.init_from is for a training without stages"
            )
        last = self.stages[-1] if self.stages else None
        stepwise = {"balance": bool(self.balance), "focal_gamma": self.focal_gamma > 0}
        if not self.stages and self.epochs == 0 and any(stepwise.values()):
            setting = next(name for name, given in stepwise.items() if given)
            raise ValueError(
                f"{setting} changes what steps of gradient descent learn, and with epochs = 0 there are none; leave it "
                "out, or take a model that is trained by steps"
            )
        if self.checkpoint == "best" and (last.epochs if last else self.epochs) == 0:
            raise ValueError('without epochs there is no best one; set checkpoint = "last"')
        for stage in self.stages:
            if stage.name in seen or not stage.name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"stage names must be unique words, and {stage.name!r} is not")
            for source in stage.init_from.values():
                if isinstance(source, str) and source not in seen:
                    raise ValueError(f"stage {stage.name!r} starts from {source!r}, which is no earlier stage")
            if (stage.epochs is None) == (stage.iterations is None):
                raise ValueError(f"stage {stage.name!r} needs either epochs or iterations")
            seen.add(stage.name)
        return self
