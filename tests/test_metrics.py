"""Scores by hand."""

import pytest
import sklearn.metrics
import torch

from muybridge.engine.metrics import score

NAMES = ("up", "down", "left", "right")
PROBABILITIES = torch.tensor([(0.4, 0.3, 0.2, 0.1), (0.3, 0.1, 0.4, 0.2), (0.1, 0.2, 0.3, 0.4), (0.0, 0.2, 0.5, 0.3)])
LABELS = torch.tensor([0, 0, 3, 3])


def test_shares_of_what_is_right():
    scores = score(PROBABILITIES, LABELS, NAMES, excluded=2)
    assert scores.top1 == 50
    assert scores.mean_class_accuracy == 50
    assert scores.per_class == {"up": 50, "down": None, "left": None, "right": 50}
    assert (scores.count, scores.excluded, scores.superclass) == (4, 2, None)


def test_they_are_those_of_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    probabilities, labels = torch.rand(200, 9, generator=rng).softmax(1), torch.randint(9, (200,), generator=rng)
    scores = score(probabilities, labels, tuple("abcdefghi"))
    best = probabilities.argmax(1)
    assert scores.confusion == sklearn.metrics.confusion_matrix(labels, best, labels=range(9)).tolist()
    assert scores.top1 == pytest.approx(100 * sklearn.metrics.accuracy_score(labels, best))
    assert scores.top5 == pytest.approx(100 * sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5))
    assert scores.mean_class_accuracy == pytest.approx(100 * sklearn.metrics.balanced_accuracy_score(labels, best))


def test_a_broader_class_has_the_probability_of_all_its_classes():
    broader = ("upright", "upright", "sideways", "sideways")
    # 0.7, 0.4, 0.7 and 0.8 for the broader class of the label
    assert score(PROBABILITIES, LABELS, NAMES, superclasses=broader).superclass == pytest.approx(75)
