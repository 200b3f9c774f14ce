"""Hand-crafted motion against definitions worked out index by index, and against calculus."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from muybridge.core.errors import RecipeError
from muybridge.core.types import Batch
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.nn.fisher import FisherVector
from muybridge.nn.local_descriptors import MIN_FLOW, block_positions, descriptors
from muybridge.recipe import Recipe
from tests.oracles.descriptors import block


@pytest.mark.parametrize("cell", [(2, 4, 4), (1, 2, 2), (4, 1, 6)])
def test_descriptors_are_those_worked_out_pixel_by_pixel(cell):
    rng = torch.Generator().manual_seed(0)
    video = torch.randn(2, 12, 3, 14, 14, generator=rng)
    flow = 0.02 * torch.randn(2, 12, 2, 14, 14, generator=rng)  # some of it slower than what counts as none
    values = descriptors(video, flow, cell)
    step = [max(1, side // 2) for side in cell]
    steps = [
        (side - each) // one - each // one * (count - 1) + 1
        for side, each, one, count in zip((12, 14, 14), cell, step, (3, 2, 2), strict=True)
    ]
    assert all(one.shape[:2] == (2, np.prod(steps)) for one in values)
    for number in (0, int(np.prod(steps)) // 2 + 1, int(np.prod(steps)) - 1):
        start = [int(positions) * each for positions, each in zip(np.unravel_index(number, steps), step, strict=True)]
        expected = block(video[1].mean(1).double().numpy(), flow[1].double().numpy(), tuple(start), cell, MIN_FLOW)
        for one, by_hand in zip(values, expected, strict=True):
            np.testing.assert_allclose(one[1, number].numpy(), by_hand, atol=2e-5)


def test_every_block_has_a_place():
    for frames, size, cell in ((32, 64, (4, 8, 8)), (12, 16, (4, 8, 8)), (9, 20, (2, 6, 6)), (5, 7, (1, 1, 1))):
        video, flow = torch.rand(1, frames, 1, size, size), torch.rand(1, frames, 2, size, size)
        positions = block_positions(frames, size, cell)
        assert {len(one[0]) for one in descriptors(video, flow, cell)} == {len(positions)}
        assert positions.abs().max() <= 1
        assert len(positions.unique(dim=0)) == len(positions)


def test_fisher_vectors_are_gradients_of_the_likelihood():
    rng = torch.Generator().manual_seed(0)
    values, positions = torch.randn(2, 40, 6, generator=rng), torch.rand(40, 3, generator=rng)
    encoder = FisherVector(6, 4, 3, position_weight=2.0).double()
    encoder.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    encoder.means.copy_(torch.randn(3, 7, generator=rng))
    encoder.deviations.copy_(0.5 + torch.rand(3, 7, generator=rng))
    means, deviations = encoder.means.clone().requires_grad_(), encoder.deviations.clone().requires_grad_()
    mixture = MixtureSameFamily(Categorical(encoder.weights), Independent(Normal(means, deviations), 1))
    x = torch.cat([values[1, :, :4], 2 * positions], dim=1).double()
    mixture.log_prob(x).mean().backward()
    scale = encoder.weights.sqrt()[:, None]
    by_mean = means.grad * encoder.deviations / scale
    by_deviation = deviations.grad * encoder.deviations / (scale * 2**0.5)
    expected = torch.cat([by_mean, by_deviation], dim=1).flatten()
    expected = expected.sign() * expected.abs().sqrt()
    got = encoder(values.double(), positions.double())[1]
    torch.testing.assert_close(got, expected / expected.norm())


def test_fitting_finds_the_gaussians_that_were_drawn_from():
    rng = torch.Generator().manual_seed(0)
    component = torch.randint(2, (4000,), generator=rng)
    values = torch.randn(4000, 5, generator=rng) * 0.3
    values[:, 2] += 6.0 * component
    positions = torch.rand(4000, 3, generator=rng) * 2 - 1
    encoder = FisherVector(5, 2, 2)
    encoder.fit(values, positions)
    torch.testing.assert_close(encoder.weights, torch.full((2,), 0.5), atol=0.03, rtol=0)
    assert encoder.basis[2, 0].abs() > 10 * encoder.basis[[0, 1, 3, 4], 0].abs().max()
    along = encoder.means[:, 0]
    torch.testing.assert_close((along[0] - along[1]).abs(), torch.tensor(2.0), atol=0.05, rtol=0)  # 6 of deviation 3
    torch.testing.assert_close(encoder.deviations[:, 2:], torch.full((2, 3), 3**-0.5), atol=0.03, rtol=0)


def test_many_clips_give_fewer_blocks_each(monkeypatch: pytest.MonkeyPatch):
    model = FisherVectorsConfig(frames=12, size=32, samples_per_clip=20, pca_components=4, gaussians=2).build(2)
    fitted: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr(FisherVector, "fit", lambda _, values, positions: fitted.append((values, positions)))
    monkeypatch.setattr("muybridge.models.fisher_vectors.network.MAX_SAMPLES", 100)
    rng = torch.Generator().manual_seed(0)
    clips = [
        {"video": torch.rand(2, 12, 1, 32, 32, generator=rng), "flow": torch.randn(2, 12, 2, 32, 32, generator=rng)}
        for _ in range(3)
    ]
    model.calibrate(clips)
    assert [len(values) for values, _ in fitted] == [6 * 10] * 4  # 20 of each, 120 in all, are more than 100
    of_clip = [descriptors(clip["video"], clip["flow"], (4, 8, 8)) for clip in clips]
    for kind, (values, positions) in enumerate(fitted):
        for number in (0, 25, 59):
            own = of_clip[number // 20][kind][number // 10 % 2]
            (block_,) = ((own - values[number]).abs().amax(1) == 0).nonzero()[:, 0][:1]
            assert torch.equal(block_positions(12, 32, (4, 8, 8))[block_], positions[number])


def test_too_few_blocks_are_told_with_the_cure():
    with pytest.raises(
        RecipeError, match=r"9 descriptors .* 10 Gaussians in 4 dimensions.*at least 10.*raise model.samples_per_clip"
    ):
        FisherVector(6, 4, 10).fit(torch.randn(9, 6), torch.rand(9, 3))


def test_a_block_that_does_not_fit_is_refused_with_the_cure():
    with pytest.raises(
        ValidationError, match="a block has 12 frames and 16 pixels a side, a clip only 8 and 64; lower"
    ):
        FisherVectorsConfig(frames=8)
    with pytest.raises(
        ValidationError, match="cell_size = 5 is odd, and the stride is half a cell; set an even number, or 1"
    ):
        FisherVectorsConfig(cell_size=5)
    with pytest.raises(ValidationError, match="pca_components is at most 96"):
        FisherVectorsConfig(pca_components=97)


def test_the_classifier_is_solved_for():
    """The gradient of the penalized squared error is zero at the weights, and views count as clips."""
    config = FisherVectorsConfig(frames=12, size=32, pca_components=4, gaussians=2, temperature=0.5, penalty=0.2)
    model = config.build(3)
    rng = torch.Generator().manual_seed(0)
    batches = [
        Batch(
            {
                "video": torch.rand(4, 12, 1, 32, 32, generator=rng),
                "flow": torch.randn(4, 12, 2, 32, 32, generator=rng),
            },
            torch.tensor(labels),
            ("a", "b"),
            views=2,
        )
        for labels in ([0, 1], [2, 1])
    ]
    model.calibrate(batch.inputs for batch in batches)
    model.solve(batches)
    vectors = torch.cat([model.encode(**batch.inputs) for batch in batches])
    targets = 2 * torch.eye(3)[[0, 0, 1, 1, 2, 2, 1, 1]] - 1
    weight = (0.5 * model.classifier.weight.detach()).requires_grad_()
    bias = (0.5 * model.classifier.bias.detach()).requires_grad_()
    loss = (vectors @ weight.T + bias - targets).pow(2).sum() + 0.2 * 8 * weight.pow(2).sum()
    loss.backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.abs().max() < 1e-4
    assert bias.grad.abs().max() < 1e-4
    scores = model(**batches[0].inputs).logits
    torch.testing.assert_close(scores, (vectors[:4] @ weight.T + bias) / 0.5)


@pytest.mark.slow
def test_it_learns_how_shapes_move(tmp_path: Path):
    recipe = Recipe.model_validate(
        {
            "title": "tiny",
            "model": {"name": "fisher_vectors", "frames": 12, "size": 32, "pca_components": 12, "gaussians": 8},
            "data": {
                "name": "moving_shapes",
                "root": str(tmp_path / "videos"),
                "height": 32,
                "width": 32,
                "frames": 14,
                "scenes": 10,
                "test_scenes": 3,
                "perturbation": 0.0,
            },
            "view": {"mode": "uniform"},
            "flow": {"between": "frames read", "bound": 8.0},
            "train": {"epochs": 0, "batch_size": 12},
        }
    )
    run = train(recipe, tmp_path / "run")
    scores = evaluate(run, "test")
    assert scores.top1 > 40  # five times chance
