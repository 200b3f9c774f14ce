"""A model as a stage of a training starts with it."""

from collections.abc import Generator
from contextlib import closing

import torch
from torch import nn

from muybridge.core.rng import derive_seed
from muybridge.core.types import Batch
from muybridge.data.loader import SampleDataset, make_loader, sequential_plan
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.init_from import load_parameters_from
from muybridge.engine.weights import load_weights, read_weights
from muybridge.models.base import Model
from muybridge.models.config import ModelConfig
from muybridge.recipe import Recipe, SourceRun, Stage


def initialize_model(
    recipe: Recipe, run: RunFolder, samples: SampleDataset, stage: Stage, number: int, *, resumed: bool
) -> Model:
    """The model of a stage: new, calibrated, with the parameters of earlier stages, frozen where the stage says so.

    Args:
        recipe: what is trained.
        run: with the weights of earlier stages.
        samples: the training set without augmentation.
        stage: the stage.
        number: of the stage, from 0.
        resumed: whether all parameters and buffers are loaded from a saved state afterwards.
    """
    model = build_model(recipe, stage, number, fetch=not resumed)
    if not resumed:
        _calibrate(model, recipe, samples)
        tensors = model.state_dict()
        for prefix, source in stage.init_from.items():
            if isinstance(source, SourceRun):
                continue
            path = run.path / "stages" / f"{source}.safetensors"
            tensors |= {name: tensor for name, tensor in read_weights(path).items() if name.startswith(prefix)}
            load_weights(model, tensors, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(stage.freeze))
    if recipe.train.partial_bn:
        freeze_batch_norm(model)
    return model


def build_model(recipe: Recipe, stage: Stage, number: int, *, fetch: bool = True) -> Model:
    """The model of a stage, with random weights or, where the recipe says so, pretrained ones and those of other runs.

    Args:
        recipe: what is trained.
        stage: the stage.
        number: of the stage, from 0; random weights depend on it.
        fetch: whether pretrained weights and those of other runs are loaded.
    """
    torch.manual_seed(derive_seed(recipe.train.seed, "init", number))
    config: ModelConfig = recipe.stage_model(stage)
    model = (config if fetch else config.without_pretrained()).build(len(recipe.data.labels()), recipe.data.holds())
    if fetch:
        load_parameters_from(model, stage.init_from)
    return model


def freeze_batch_norm(model: nn.Module) -> None:
    """Freeze all batch normalization layers but the first (partial BN of TSN, Wang et al., ECCV 2016)."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms[1:]:
        norm.eval().requires_grad_(False)


def _calibrate(model: Model, recipe: Recipe, samples: SampleDataset) -> None:
    """Let the model fit what it does not learn by gradient descent, such as means, on the training set."""
    with closing(_unaugmented(recipe, samples)) as batches:
        model.calibrate(batch.inputs for batch in batches)
    with closing(_unaugmented(recipe, samples)) as batches:
        model.solve(batches)


def _unaugmented(recipe: Recipe, samples: SampleDataset) -> Generator[Batch]:
    """The training set in batches; loading starts with the first that is taken."""
    plan = sequential_plan(len(samples), recipe.train.batch_size)
    loader = make_loader(samples, plan, recipe.train.num_workers)
    try:
        for batch in loader:
            if recipe.train.on_error == "raise":
                batch.raise_on_failure()
            if len(batch):
                yield batch
    finally:
        loader.close()
