"""Classes of uneven size: weights, drawing, the weighted and the focal loss, and a training with each."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from muybridge.core.errors import RecipeError
from muybridge.core.rng import make_generator
from muybridge.data.balance import ClassBalance
from muybridge.data.loader import BatchPlan
from muybridge.engine.journal import Journal
from muybridge.engine.train import train
from muybridge.nn.criterion import CrossEntropy
from muybridge.recipe import Recipe
from tests.test_train import KillAt, KilledError, assert_equal_weights, weights
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

UNEVEN = [0] * 60 + [1] * 12 + [2] * 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recordings of tests/tiny.py, of whose third action one person's first take trains."""
    root = write_recordings(tmp_path_factory.mktemp("recordings"))
    for path in root.glob("a03_s0[13]_*"):
        if "s01_e01" not in path.name:
            path.unlink()
    return root


# Weights


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.999999])
def test_weights_follow_the_effective_number_of_samples(beta: float):
    balance = ClassBalance.of(UNEVEN, 3, beta)
    effective = [sum(beta**power for power in range(count)) for count in (60, 12, 3)]  # Eq. 2, term by term
    expected = np.array([1 / number for number in effective])
    np.testing.assert_allclose(balance.class_weights / balance.class_weights[0], expected / expected[0], rtol=1e-6)
    assert balance.class_weights[UNEVEN].mean() == pytest.approx(1)
    np.testing.assert_allclose(balance.sample_weights, balance.class_weights[UNEVEN])


def test_classes_that_a_mirror_swaps_count_as_many_samples_as_both_have_on_average():
    swap = {0: 1, 1: 0}
    balance = ClassBalance.of(UNEVEN, 3, 0.999999, [(0.5, swap)])
    assert balance.class_weights[0] == pytest.approx(balance.class_weights[1])
    assert balance.class_weights[2] / balance.class_weights[0] == pytest.approx(36 / 3, rel=1e-3)
    assert balance.sample_weights.mean() == pytest.approx(1)
    twice = ClassBalance.of(UNEVEN, 3, 0.999999, [(1.0, swap), (1.0, swap)])
    np.testing.assert_allclose(twice.class_weights, ClassBalance.of(UNEVEN, 3, 0.999999).class_weights)


def test_a_class_without_samples_weighs_nothing():
    balance = ClassBalance.of([0, 0, 2], 4, 0.99)
    assert balance.class_weights[[1, 3]].tolist() == [0, 0]
    assert np.isfinite(balance.class_weights).all()


# Drawing


def test_each_class_is_drawn_as_often_as_it_weighs_and_each_sample_alike():
    balance = ClassBalance.of(UNEVEN, 3, 0.999999)
    times = Counter()
    for epoch in range(300):
        drawn = balance.draw(make_generator("draw", epoch))
        assert len(drawn) == len(set(drawn)) == len(UNEVEN)
        of_class = Counter(UNEVEN[index] for index, _ in drawn)
        assert all(24 <= of_class[label] <= 26 for label in range(3)), of_class
        for index, often in Counter(index for index, _ in drawn).items():
            assert sorted(time for other, time in drawn if other == index) == list(range(often))
            assert abs(often - balance.sample_weights[index]) < 1
        times.update(index for index, _ in drawn)
    for index, weight in enumerate(balance.sample_weights):
        assert times[index] / 300 == pytest.approx(weight, rel=0.35)


def test_even_classes_are_drawn_once_each():
    drawn = ClassBalance.of([0, 1, 0, 1], 2, 0.99).draw(make_generator(0))
    assert sorted(drawn) == [(index, 0) for index in range(4)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_what_is_drawn(world: int):
    balance = ClassBalance.of(UNEVEN, 3, 0.999)
    plans = [BatchPlan(75, 8, seed=3, rank=rank, world=world, balance=balance) for rank in range(world)]
    for plan in plans:
        plan.start_at(5)
    one = BatchPlan(75, 8, seed=3, balance=balance)
    one.start_at(5)
    shares = [list(plan) for plan in plans]
    together = [sorted(key for share in step for key in share) for step in zip(*shares, strict=True)]
    assert [sorted(step) for step in one.steps()] == together
    assert any(len(key) == 3 for step in together for key in step)
    middle = BatchPlan(75, 8, seed=3, balance=balance)
    middle.start_at(5, 4)
    assert list(middle) == list(one)[4:]


# The loss

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 1, 1])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


def test_the_loss_of_a_sample_is_multiplied_by_the_weight_of_its_class():
    each = F.cross_entropy(LOGITS, LABELS, reduction="none") * WEIGHTS[LABELS]
    criterion = CrossEntropy(WEIGHTS)
    torch.testing.assert_close(criterion(LOGITS, LABELS), each.mean())
    torch.testing.assert_close(criterion(LOGITS, LABELS, reduction="sum"), each.sum())
    one_hot = F.one_hot(LABELS, 4).float()
    torch.testing.assert_close(criterion(LOGITS, one_hot.lerp(one_hot.flip(0), 0.0)), each.mean())


def test_a_smoothed_loss_is_weighted_by_the_label_alone():
    each = F.cross_entropy(LOGITS, LABELS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(CrossEntropy(None, 0.2)(LOGITS, LABELS), each.mean())
    torch.testing.assert_close(CrossEntropy(WEIGHTS, 0.2)(LOGITS, LABELS), (each * WEIGHTS[LABELS]).mean())


def test_a_mixture_of_clips_counts_as_the_mixture_of_their_losses():
    criterion, one_hot, other = CrossEntropy(WEIGHTS, 0.1), F.one_hot(LABELS, 4).float(), LABELS.flip(0)
    mixed = criterion(LOGITS, one_hot.flip(0).lerp(one_hot, 0.3))
    torch.testing.assert_close(mixed, 0.3 * criterion(LOGITS, LABELS) + 0.7 * criterion(LOGITS, other))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_is_that_of_the_paper(gamma: float):
    probability = LOGITS.softmax(1)[torch.arange(6), LABELS]
    expected = -((1 - probability) ** gamma) * probability.log()
    torch.testing.assert_close(CrossEntropy(focal_gamma=gamma)(LOGITS, LABELS), expected.mean())
    torch.testing.assert_close(CrossEntropy(WEIGHTS, 0.0, gamma)(LOGITS, LABELS), (expected * WEIGHTS[LABELS]).mean())


def test_the_focal_loss_has_a_gradient_where_a_class_is_certain():
    logits = torch.tensor([[200.0, 0.0], [3.0, 2.0]], requires_grad=True)
    CrossEntropy(focal_gamma=0.5)(logits, torch.tensor([0, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().sum() > 0


def test_the_focal_gradient_is_that_of_differences():
    logits = LOGITS.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: CrossEntropy(WEIGHTS, 0.1, 1.5)(scores, LABELS), logits)


# Training


@pytest.mark.parametrize("balance", ["sampler", "loss"])
def test_a_balanced_training_is_the_same_for_any_workers_and_when_resumed(root: Path, tmp_path: Path, balance: str):
    settings = {"balance": balance, "focal_gamma": 1.0, "label_smoothing": 0.1}
    train(tiny_recipe(root, **settings), tmp_path / "whole")
    train(tiny_recipe(root, num_workers=2, **settings), tmp_path / "helped")
    with pytest.raises(KilledError):
        train(tiny_recipe(root, **settings), tmp_path / "killed", report=KillAt(5))
    train(tiny_recipe(root, **settings), tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "helped")
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")
    settings["balance"] = ""
    train(tiny_recipe(root, **settings), tmp_path / "uneven")
    plain = weights(tmp_path / "uneven")
    assert any(not torch.equal(value, plain[name]) for name, value in weights(tmp_path / "whole").items())


def test_repetitions_of_a_sample_are_augmented_anew(root: Path):
    samples = _samples(tiny_recipe(root))
    first, again, other = (samples[key][0]["joints"] for key in ((2, 5), (2, 5), (2, 5, 1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_rare_class_is_found_with_balance(root: Path, tmp_path: Path):
    recalls = {}
    for balance in ("", "sampler", "loss"):
        recipe = tiny_recipe(root, epochs=12, balance=balance, save_seconds=30.0, balance_beta=0.99)
        run = train(recipe, tmp_path / f"run{balance}")
        recalls[balance] = _rare_probability(run.path)
    assert recalls["sampler"] > recalls[""]
    assert recalls["loss"] > recalls[""]


def test_mirrored_labels_are_counted_as_training_sees_them(tmp_path: Path):
    videos = write_videos(tmp_path / "videos", people="abcd", takes=1)
    for name in ("a_0.mp4", "b_0.mp4"):
        (videos / "dusk" / name).unlink()
    recipe = tiny_clip_recipe(videos, balance="loss").with_settings({"data.mirror_labels": [["dawn", "dusk"]]})
    samples = _samples(recipe)
    flips = samples.prepare.relabelling()
    balance = ClassBalance.of([record.label for record in samples.records], 2, 0.999, flips)
    assert [record.label for record in samples.records] == [0, 0, 0, 1]
    np.testing.assert_allclose(balance.class_weights, [1, 1])
    skipped = recipe.with_settings({"augment.clip.flip_labels": "skip"})
    assert ClassBalance.of([0, 0, 0, 1], 2, 0.999, _samples(skipped).prepare.relabelling()).class_weights[1] > 1.9


def test_the_journal_says_what_the_weighted_loss_is(root: Path, tmp_path: Path):
    train(tiny_recipe(root, epochs=1, balance="loss"), tmp_path / "run")
    row = Journal(tmp_path / "run" / "journal.jsonl").rows()[0]["train"]
    assert row["cross_entropy"] > 0


# Refusals


@pytest.mark.parametrize("setting", [{"balance": "loss"}, {"balance": "sampler"}, {"focal_gamma": 2.0}])
def test_a_model_that_is_solved_for_has_no_steps_to_balance(tmp_path: Path, setting: dict[str, object]):
    recipe = tiny_recipe(tmp_path)
    with pytest.raises(RecipeError, match="with epochs = 0 there are none"):
        recipe.with_settings({"train.epochs": 0} | {f"train.{name}": value for name, value in setting.items()})


def test_playback_draws_its_classes_evenly(tmp_path: Path):
    recipe = tiny_recipe(tmp_path)
    data = {"name": "playback", "source": recipe.data.model_dump(mode="json", exclude_none=True)}
    with pytest.raises(RecipeError, match='"playback" draws its own evenly'):
        recipe.with_settings({"data": data, "train.balance": "loss"})


def _samples(recipe: Recipe):
    from muybridge.engine.evaluate import make_samples

    return make_samples(recipe, "train", augment=True)


def _rare_probability(run: Path) -> float:
    """The mean probability that the test recordings of the third action get."""
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.evaluate import predict_part
    from muybridge.engine.runtime import Runtime

    predictions, _, _ = predict_part(RunFolder.open(run), "test", Runtime("32-true"))
    rare = predictions.labels == 2
    return float(predictions.probabilities[rare, 2].mean())
