"""The estimator with the interface of scikit-learn."""

import inspect
import os
import pickle
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils import estimator_checks
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, MuybridgeWarning, RecipeError, RunError
from muybridge.core.types import SkeletonSequence
from muybridge.engine.train import _alone
from muybridge.sklearn import Recogniser
from muybridge.sklearn.recogniser import DECIDED
from muybridge.sklearn.recordings import check_recordings, folder_names
from tests.tiny import write_videos

CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_set_params",
    "check_valid_tag_types",
)
"""Of scikit-learn; all others fit to a table of numbers, N x features, which is no recording."""


def movements(seed: int = 0) -> tuple[list[np.ndarray], list[str], list[str]]:
    """A hand goes up or down, three takes by each of four people; lengths differ."""
    rng = np.random.default_rng(seed)
    body = rng.normal(size=(20, 3))
    X, y, groups = [], [], []
    for label, way in (("up", 1), ("down", -1)):
        for person in range(4):
            for take in range(3):
                joints = np.repeat(body[None] * (1 + 0.1 * person), 8 + take, 0)
                joints[:, 12, 1] += np.linspace(0, 2, 8 + take) * way
                X.append(joints + 0.02 * rng.normal(size=joints.shape))
                y.append(label)
                groups.append(f"person {person}")
    return X, y, groups


def small(**changes: Any) -> Recogniser:
    settings = {"epochs": 20, "model__hidden": 8, "data__layout": "kinect20", "train__precision": "32-true"}
    return Recogniser("drnn", **settings | changes)


@pytest.fixture(scope="module")
def data() -> tuple[list[np.ndarray], list[str], list[str]]:
    return movements()


@pytest.fixture(scope="module")
def fitted(data: tuple[list[np.ndarray], list[str], list[str]]) -> Recogniser:
    return small(validation_fraction=0.25).fit(*data)


@pytest.fixture(scope="module", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for temporary files that no other process writes to, so that what is left behind is the estimator's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield


def leftovers() -> list[str]:
    return os.listdir(tempfile.gettempdir())


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name: str) -> None:
    check = getattr(estimator_checks, name)
    extra = [Recogniser(epochs=1)] if len(inspect.signature(check).parameters) > 1 else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check("Recogniser", *extra) if extra else check(Recogniser(epochs=1))


def test_fit_predict_score(fitted: Recogniser, data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, y, _ = data
    assert fitted.classes_.tolist() == ["down", "up"]
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(X)).all()
    assert fitted.score(X, y) == 1.0
    assert fitted.score(movements(0)[0], y) == 1.0
    assert fitted.validation_score_ == 1.0
    assert fitted._predictor().calibration is not None  # on what was held out
    assert leftovers() == []


def test_whole_groups_are_held_out(tmp_path: Path, data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    from muybridge.engine.checkpoint import RunFolder

    X, y, groups = data
    small(epochs=1, validation_fraction=0.25, run=tmp_path / "run").fit(X, y, groups=groups)
    split = RunFolder.open(tmp_path / "run").split()
    assert split is not None
    people = [{record.group for record in split.records if record.split == part} for part in ("train", "val")]
    assert len(people[1]) == 1
    assert people[0] | people[1] == {f"{number:06}" for number in range(4)}
    assert not people[0] & people[1]
    result = CliRunner().invoke(app, ["test", str(tmp_path / "run"), "--split", "val", "--json"])
    assert result.exit_code == 0, result.output
    with pytest.raises(DataError, match=r"the folder is not empty.*a search over parameters needs None"):
        small(run=tmp_path / "run").fit(X, y)


def test_any_classes_in_any_order(data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, y, _ = data
    number = {"up": 3, "down": 20}
    estimator = small().fit(X, np.array([number[label] for label in y]))
    assert estimator.classes_.tolist() == [3, 20]
    assert estimator.score(X, [number[label] for label in y]) == 1.0
    odd = {"up": "../b", "down": "a/\n"}
    estimator = small().fit(X, [odd[label] for label in y])
    assert estimator.score(X, [odd[label] for label in y]) == 1.0
    assert folder_names(["a b", "a_b"]) == ["class 0", "class 1"]  # which a data set takes for one
    assert folder_names([10, 9]) == ["10", "9"]


def test_the_same_seed_gives_the_same_network(data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, y, _ = data
    first, again, other = (small(epochs=2, random_state=seed).fit(X, y).predict_proba(X[:4]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert small(epochs=2, random_state=np.random.RandomState(0)).fit(X, y).recipe_.train.seed > 0


def test_sequences_and_stacked_arrays(fitted: Recogniser, data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, _, _ = data
    expected = fitted.predict_proba(X[:1])
    tensor = torch.from_numpy(X[0]).float()[:, None]
    sequence = SkeletonSequence(tensor, torch.ones(len(tensor), 1, dtype=torch.bool))
    for given in ([sequence], [tensor], np.stack(X[:1]), np.stack(X[:1])[:, :, None]):
        np.testing.assert_allclose(fitted.predict_proba(given), expected, atol=1e-5)


def test_pickle_and_joblib(
    fitted: Recogniser, data: tuple[list[np.ndarray], list[str], list[str]], tmp_path: Path
) -> None:
    X, _, _ = data
    expected = fitted.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), expected)
    joblib.dump(fitted, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(X), expected)


def test_model_selection(data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, y, groups = data
    scores = cross_val_score(small(), X, y, groups=groups, cv=GroupKFold(2))
    assert scores.tolist() == [1, 1]
    grid = {"model__hidden": [2, 8], "train__optimizer__lr": [1e-2]}
    search = GridSearchCV(small(epochs=8), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["train__optimizer__lr"] == 1e-2
    assert search.best_estimator_.recipe_.model.hidden == search.best_params_["model__hidden"]
    assert leftovers() == []


def test_videos_by_path(tmp_path: Path) -> None:
    videos = sorted(write_videos(tmp_path / "videos").rglob("*.mp4"))
    labels = [path.parent.name for path in videos]
    settings = {"model__backbone": "resnet10", "model__pretrained": False, "model__segments": 2, "model__size": 32}
    estimator = Recogniser("tsm", epochs=1, **settings).fit(videos, labels)
    assert estimator.predict_proba([str(path) for path in videos[:3]]).shape == (3, 2)
    before = {path: path.stat().st_mtime_ns for path in videos}
    assert before == {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "videos").rglob("*.mp4"))}
    with pytest.raises(DataError, match=r"has no recordings, but 8 \.mp4"):
        Recogniser("drnn", epochs=1).fit(videos, labels)


def test_settings_are_parameters() -> None:
    estimator = small(train__optimizer__lr=0.5)
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator._settings()["train.optimizer.lr"] == 0.5
    assert "model__hidden=8" in repr(estimator)
    with pytest.raises(TypeError, match=r"Invalid parameter 'hidden'.*such as model__hidden"):
        Recogniser(hidden=3)
    with pytest.raises(ValueError, match="Invalid parameter 'modle__hidden'"):
        estimator.set_params(modle__hidden=3)


def test_what_is_wrong_is_said(data: tuple[list[np.ndarray], list[str], list[str]], tmp_path: Path) -> None:
    X, y, groups = data
    cases: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (np.zeros((24, 3)), y, None, ValueError, "a table of features is no recording"),
        ("a.npz", y, None, TypeError, "Expected a list of recordings"),
        (iter(X), y, None, TypeError, "Expected a list of recordings"),
        ([], [], None, ValueError, "X is empty"),
        (X, None, None, ValueError, "the target y is None"),
        (X, y[:-1], None, ValueError, "inconsistent numbers of samples"),
        (X, y, groups[:-1], ValueError, "inconsistent numbers of samples"),
        (X, ["up"] * 24, None, ValueError, "y has one class, 'up'"),
        (X, np.linspace(0, 1, 24), None, ValueError, "Unknown label type: continuous"),
        ([*X[:-1], np.zeros((3, 3))], y, None, DataError, r"X\[23\]: joints is 3 x 3"),
        ([*X[:-1], tmp_path / "gone.npz"], y, None, DataError, r"gone.npz: no such file.*X\[23\]"),
    ]
    one_missing = [np.nan, *range(23)]
    cases.append((X, y, one_missing, ValueError, r"groups\[0\] is nan"))
    cases.append((X, y, [None, *groups[1:]], ValueError, r"groups\[0\] is None"))
    for recordings, labels, people, error, words in cases:
        with pytest.raises(error, match=words):
            small(epochs=1).fit(recordings, labels, groups=people)
    with pytest.raises(RecipeError, match=r"unknown setting model.hiden .*did you mean model.hidden"):
        small(model__hiden=3, run=tmp_path / "run").fit(X, y)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RecipeError, match="no model 'nope'"):
        small().set_params(model="nope").fit(X, y)
    with pytest.raises(NotFittedError):
        small().predict(X)
    with _alone(), pytest.raises(RunError, match="another training runs in this process"):
        small(epochs=1).fit(X, y)
    assert leftovers() == []


def test_a_part_for_validation_that_would_be_empty_is_refused(
    data: tuple[list[np.ndarray], list[str], list[str]],
) -> None:
    X, y, _ = data
    with pytest.raises(ValueError, match=r"validation_fraction=0.25 holds out nothing.*three groups"):
        small(validation_fraction=0.25, epochs=1).fit(X, y, groups=["one"] * 24)


@pytest.mark.parametrize("name", DECIDED)
def test_what_fit_decides_is_no_setting(name: str, data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    with pytest.raises(ValueError, match=f"{name} is decided by the estimator; use"):
        small(**{name: 1}).fit(data[0], data[1])


def test_a_sequence_is_not_arranged_twice(data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    X, y, _ = data
    sequences = [SkeletonSequence(torch.tensor(x)[:, None].float(), torch.ones(len(x), 1, dtype=torch.bool)) for x in X]
    with pytest.raises(DataError, match=r"X\[0\]: a SkeletonSequence is arranged already"):
        small(data__up="z").fit(sequences, y)


def test_a_recording_that_cannot_be_predicted_is_named(
    fitted: Recogniser, data: tuple[list[np.ndarray], list[str], list[str]]
) -> None:
    with pytest.raises(DataError, match=r"^X\[10\]: nobody is seen"):
        fitted.predict([*data[0][:10], np.full((8, 20, 3), np.nan)])


def test_an_unknown_device_is_said(data: tuple[list[np.ndarray], list[str], list[str]]) -> None:
    with pytest.raises(RunError, match=r"there is no device 'gpu'\. Expected auto, cpu or cuda"):
        small(device="gpu", epochs=1).fit(data[0], data[1])


def test_a_column_of_pandas_is_taken_by_position() -> None:
    class Column(list):
        iloc = None

        def to_numpy(self) -> np.ndarray:
            return np.array([*self, "last"], dtype=object)

    assert check_recordings(Column(["a"])).tolist() == ["a", "last"]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_long_recording_is_warned_about(fitted: Recogniser) -> None:
    long = np.repeat(movements()[0][0], 40, axis=0)
    with pytest.warns(MuybridgeWarning, match="long"):
        fitted.predict([long])
