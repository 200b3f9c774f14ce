"""Scores by hand."""

import pytest
import torch

from muybridge.engine.metrics import score

NAMES = ("up", "down", "left", "right")
PROBABILITIES = torch.tensor([(0.4, 0.3, 0.2, 0.1), (0.3, 0.1, 0.4, 0.2), (0.1, 0.2, 0.3, 0.4), (0.0, 0.2, 0.5, 0.3)])
LABELS = torch.tensor([0, 0, 3, 3])


def test_shares_of_what_is_right():
    scores = score(PROBABILITIES, LABELS, NAMES, skipped=2)
    assert scores.top1 == 50
    assert scores.mean_class_accuracy == 50
    assert scores.per_class == {"up": 50, "down": None, "left": None, "right": 50}
    assert (scores.count, scores.excluded, scores.superclass) == (4, 2, None)


def test_a_broader_class_has_the_probability_of_all_its_classes():
    broader = ("upright", "upright", "sideways", "sideways")
    # 0.7, 0.4, 0.7 and 0.8 for the broader class of the label
    assert score(PROBABILITIES, LABELS, NAMES, broader=broader).superclass == pytest.approx(75)
