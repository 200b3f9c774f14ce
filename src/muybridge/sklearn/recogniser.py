"""An estimator of scikit-learn that trains a recipe.

Legend: N recordings, K classes.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from muybridge.core.errors import DataError
from muybridge.core.types import Prediction
from muybridge.engine.calibrate import calibrate
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.media.arrays import ReadOptions
from muybridge.predict import Predictor
from muybridge.recipe import Recipe, folder_recipe
from muybridge.sklearn.recordings import GROUP, check_recordings, folder_names, write_recordings

TABLES = ("model", "data", "view", "flow", "augment", "train")
"""Of a recipe; their settings are parameters of the estimator, with ``__`` in place of dots."""

DECIDED = {
    "data__root": "the X of fit",
    "data__split": "validation_fraction",
    "data__test_fraction": "a split of scikit-learn before fit",
    "data__test_groups": "a split of scikit-learn before fit",
    "data__fold": "a split of scikit-learn before fit",
    "data__val_fraction": "validation_fraction",
    "data__val_groups": "validation_fraction with the groups of fit",
    "data__group": "the groups of fit",
    "data__classes": "the y of fit",
    "train__seed": "random_state",
}
"""Settings that the estimator decides by itself, and from what."""

_BATCH = 8
_KEPT = ("*.json", "*.toml", "labels.txt", "split.csv", "weights.safetensors", "journal.jsonl")
"""Files of a run that predicting needs, which the estimator keeps in memory."""


class Recogniser(ClassifierMixin, BaseEstimator):
    """A network that is trained with ``fit``, as a classifier of scikit-learn.

    Every setting of the recipe is a parameter, by its dotted name with ``__`` in place of dots:
    ``Recogniser("drnn", model__hidden=64, train__optimizer__lr=1e-3)``. So they can be searched with ``GridSearchCV``.
    All others are those of the model's starting recipe, which follow from the recordings.

    Args:
        model: of `muybridge models` with a starting recipe.
        epochs: passes over the recordings; None as many as the starting recipe chooses.
        validation_fraction: share of the recordings, or of the groups, that is held out: its accuracy becomes
            ``validation_score_``, and the probabilities are calibrated on it. 0 trains on all.
        random_state: seed of the training; None is 0.
        device: "auto", "cpu" or "cuda".
        run: a new folder for the run, which then has the recordings too and can be tested, shown and reported; None
            leaves nothing on the disk.
        verbose: whether progress is printed.
        settings: settings of the recipe.

    Attributes:
        classes_: of ``y``, sorted.
        validation_score_: accuracy from 0 to 1 on what was held out; None where nothing was.
        recipe_: the complete recipe.
    """

    def __init__(
        self,
        model: str = "drnn",
        *,
        epochs: int | None = None,
        validation_fraction: float = 0.0,
        random_state: Any = None,
        device: str = "auto",
        run: str | Path | None = None,
        verbose: bool = False,
        **settings: Any,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.run = run
        self.verbose = verbose
        for name, value in settings.items():
            _check_setting(name, type(self).__name__, TypeError)
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, and the settings of the recipe that were given."""
        return super().get_params(deep) | {name: value for name, value in vars(self).items() if _is_setting(name)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters and settings of the recipe; raises ValueError for an unknown one."""
        known = super().get_params(deep=False)
        for name in params:
            if name not in known:
                _check_setting(name, type(self).__name__, ValueError)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on recordings.

        Args:
            X: a list of arrays ``T P J D`` or ``T J D``, of :class:`~muybridge.core.types.SkeletonSequence`, or of
                paths of videos or skeleton files, of the kind that the model takes; or one array of equally long
                recordings.
            y: the class of each, numbers or texts.
            groups: the person or source of each; what is held out for validation are whole groups.

        Raises:
            ValueError: ``y`` or ``groups`` do not fit, there is a single class, nothing can be held out for validation,
                or a setting is one that the estimator decides.
            TypeError: ``X`` is no list of recordings.
            RecipeError: an unknown model or setting, or a wrong value.
            DataError: a recording cannot be read.
            RunError: the folder ``run`` has a run already, or another training runs in this process.
        """
        X, y = self._check(X, y)  # noqa: N806
        if groups is not None:
            groups = _number_groups(X, groups)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {str(self.classes_[0])!r}; a classifier needs two or more")
        names = folder_names(self.classes_.tolist())
        with self._run_folder() as folder:
            write_recordings(folder / "recordings", X, [names[number] for number in numbers], groups, self._options())
            self._train(folder, len(X), by_group=groups is not None)
        order = [self._predictor_labels.index(name) for name in names]
        self._order = np.asarray(order)
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "N K"]:  # noqa: N803
        """Probability of each of ``classes_`` for each recording; raises NotFittedError before ``fit``."""
        check_is_fitted(self, "recipe_")
        recordings, predictor = check_recordings(X), self._predictor()
        answers: list[Prediction] = []
        for first in range(0, len(recordings), _BATCH):
            numbers = range(first, min(first + _BATCH, len(recordings)))
            part, names = [recordings[number] for number in numbers], [f"X[{number}]" for number in numbers]
            answers += predictor.batch(part, top=len(self.classes_), names=names)
        rows = np.empty((len(answers), len(self.classes_)))
        for row, answer in zip(rows, answers, strict=True):
            by_name = dict(zip(answer.labels, answer.scores, strict=True))
            row[:] = [by_name[self._predictor_labels[place]] for place in self._order]
        return rows

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The most probable class of each recording; raises NotFittedError before ``fit``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def __getstate__(self) -> dict[str, Any]:
        # The network is rebuilt from the files of its run, so that pickles do not depend on the device.
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_loaded"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags

    def _check(self, X: Any, y: Any) -> tuple[Sequence[Any], np.ndarray]:  # noqa: N803
        for name in vars(self).keys() & DECIDED.keys():
            raise ValueError(f"the setting {name} is decided by the estimator; use {DECIDED[name]} instead")
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        X = check_recordings(X)  # noqa: N806
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        check_classification_targets(y)
        return X, y

    def _settings(self) -> dict[str, Any]:
        """Settings of the recipe by dotted name."""
        given = {name.replace("__", "."): value for name, value in vars(self).items() if _is_setting(name)}
        own = {"train.num_workers": 0, "train.epochs": self.epochs}
        return {name: value for name, value in own.items() if value is not None} | given

    def _options(self) -> ReadOptions:
        given = self._settings()
        return ReadOptions(*(given.get(f"data.{name}", default) for name, default in _READ.items()))

    @contextmanager
    def _run_folder(self) -> Iterator[Path]:
        """The folder of the run; a temporary one is removed, and so is a new one in which no training began."""
        if self.run is None:
            with tempfile.TemporaryDirectory(prefix="muybridge-") as folder:
                yield Path(folder) / "run"
            return
        folder = Path(self.run).expanduser()
        if RunFolder(folder).exists or (folder.exists() and any(folder.iterdir())):
            raise DataError(
                "the folder is not empty",
                expected="a new folder for the run",
                hint="choose another run, or None to keep no folder; a search over parameters needs None",
                where=folder,
            )
        try:
            yield folder
        finally:
            if not RunFolder(folder).exists:
                shutil.rmtree(folder, ignore_errors=True)

    def _recipe(self, folder: Path, by_group: bool) -> Recipe:
        seed = self.random_state
        if seed is None or not isinstance(seed, int | np.integer):
            seed = 0 if seed is None else check_random_state(seed).randint(2**31)
        of_split: dict[str, Any] = {
            "data.split": "drawn",
            "data.test_fraction": 0.0,
            "data.val_fraction": float(self.validation_fraction),
            "data.group": GROUP if by_group else "",
            "train.seed": int(seed),
        }
        return folder_recipe(self.model, folder / "recordings", of_split | self._settings())

    def _train(self, folder: Path, count: int, by_group: bool) -> None:
        recipe = self._recipe(folder, by_group)
        found = [recipe.data.index(split) for split in ("train", "val")]
        if (read := sum(len(index) + len(index.excluded) for index in found)) != count:
            raise DataError(
                f"{read} of {count} recordings are found",
                expected=f"recordings that the model {self.model!r} takes, each once",
                hint="give paths of videos to a model of videos, and skeletons to a model of skeletons",
            )
        if self.validation_fraction and not len(found[1]):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds out nothing. Expected at least two "
                "recordings of a class, or three groups; give more, or set validation_fraction=0, which trains on all"
            )
        runtime, report = Runtime(recipe.precision, self.device), Reporter(quiet=not self.verbose)
        run = train(recipe, folder, runtime=runtime, report=report)
        has_val = bool(len(found[1]))
        if has_val:
            calibrate(run, runtime, report)
        rows = [row for row in Journal(run.path / "journal.jsonl").rows() if "val" in row]
        self.validation_score_ = rows[-1]["val"]["top1"] / 100 if has_val and rows else None
        self.recipe_ = run.recipe()
        self._predictor_labels = run.labels()
        self._files = {path.name: path.read_bytes() for pattern in _KEPT for path in sorted(folder.glob(pattern))}
        self.__dict__.pop("_loaded", None)

    def _predictor(self) -> Predictor:
        """The trained network, loaded once."""
        if not hasattr(self, "_loaded"):
            with tempfile.TemporaryDirectory(prefix="muybridge-") as folder:
                for name, content in self._files.items():
                    (Path(folder) / name).write_bytes(content)
                self._loaded = Predictor(folder, self.device)
        return self._loaded


def _number_groups(X: Any, groups: Any) -> np.ndarray:  # noqa: N803
    """The number of the group of each recording; raises ValueError where one is missing."""
    check_consistent_length(X, groups)
    names = list(groups)
    missing = [number for number, name in enumerate(names) if name is None or name != name]  # NaN
    if missing:
        raise ValueError(f"groups[{missing[0]}] is {names[missing[0]]}; give the group of every recording")
    order = {name: number for number, name in enumerate(sorted({str(name) for name in names}))}
    return np.asarray([order[str(name)] for name in names])


_READ: dict[str, Any] = {"axes": "", "coordinates": 0, "up": ""}


def _is_setting(name: str) -> bool:
    table, _, rest = name.partition("__")
    return table in TABLES and bool(rest)


def _check_setting(name: str, kind: str, error: type[Exception]) -> None:
    """Refuse what cannot be a setting of a recipe."""
    if not _is_setting(name):
        raise error(
            f"Invalid parameter {name!r} for estimator {kind}. Valid are its own parameters, and settings of the "
            f"recipe such as model__hidden or train__optimizer__lr, whose names begin with {', '.join(TABLES)}"
        )
