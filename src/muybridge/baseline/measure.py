"""The baselines of a data set, on its own split: fitted on the training part, tested once on another part."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int
from scipy.stats import binomtest

from muybridge.baseline.classifiers import Fitted, fit_linear
from muybridge.baseline.descriptors import Descriptors, describe_skeleton, describe_video
from muybridge.baseline.fisher import MAX_VIDEOS, fisher_features, has_optical_flow, motion_preparation
from muybridge.baseline.minirocket import has_minirocket, minirocket_features
from muybridge.baseline.near_duplicates import describe_near_duplicates
from muybridge.baseline.table import Baseline, BaselineTable
from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.processes import map_in_threads
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Split, require_one_label
from muybridge.data.prepare import ClipPreparation

MAX_OWN = 3000
"""A training measures the baselines of larger data sets only when it is asked to."""

Progress = Callable[[int, int], None]
"""Called with how many recordings are read, and of how many."""

TITLES = {
    "one frame": "one random frame",
    "background": "background alone",
    "linear": "linear model",
}
METHODS = {
    "one frame": "ridge classifier on a single random frame: what a still picture or pose tells",
    "background": "ridge classifier on the median of the frames: what the scene tells without anybody moving",
    "linear": "ridge classifier on mean and standard deviation of frames and of changes between frames",
}


def measure_baselines(
    data: DatasetConfig,
    split: Split = "test",
    parts: Mapping[str, Sequence[Record]] | None = None,
    progress: Progress | None = None,
    fisher_vectors: bool = False,
) -> BaselineTable:
    """Fit the baselines on the training part of a data set and test each once.

    Args:
        data: the data set with its split.
        split: the part to test on.
        parts: recordings of ``train`` and of ``split``; by default those that the data set has now.
        progress: called now and then.
        fisher_vectors: whether Fisher vectors of hand-crafted motion are among the baselines of videos; they take
            minutes where all others take seconds.

    Raises:
        DataError: a part is empty, or a recording cannot be read.
    """
    require_one_label(data, "baselines")
    parts = parts or {name: data.index(name).records for name in ("train", split)}
    train, test = parts["train"], parts[split]
    if not train or not test:
        raise DataError(
            f"the part {split if train else 'train'} is empty",
            expected="recordings to fit on and recordings to test on",
            hint="choose another --split, or set data.val_fraction or data.test_fraction",
        )
    prepare, notices = None, []
    if fisher_vectors and isinstance(data.holds(), ClipData):
        prepare, notices = _prepare_motion(len(train) + len(test))
    started = time.monotonic()
    described = list(describe_records(data, [*train, *test], progress, prepare))
    seconds = time.monotonic() - started
    labels = np.array([record.label for record in train])
    truth = np.array([record.label for record in test])
    groups = [record.group for record in train]
    rows = [_majority(labels, truth)]
    for name in described[0].vectors:
        features = {key: np.stack([one.vectors[name][key] for one in described]) for key in described[0].vectors[name]}
        rows.append(_measure(TITLES[name], METHODS[name], features, labels, truth, groups))
    if prepare:
        rows.append(_measure_fisher_vectors(described, prepare, labels, truth, groups))
    notices += describe_near_duplicates(train, test, described, data.holds())
    if isinstance(data.holds(), SkeletonData):
        if has_minirocket():
            rows.append(_measure_minirocket([one.series for one in described], labels, truth, groups))
        else:
            notices.append("MiniROCKET is left out; install it with `pip install 'muybridge[baseline]'`")
    return BaselineTable(split, len(train), len(test), tuple(rows), seconds, tuple(notices))


def describe_records(
    data: DatasetConfig,
    records: Sequence[Record],
    progress: Progress | None = None,
    prepare: ClipPreparation | None = None,
) -> Iterator[Descriptors]:
    """The descriptors of each recording, in their order; ``prepare`` reads videos for Fisher vectors.

    They are read by as many threads as there are cores, which decoding lets work.
    """
    data = data.resolved()  # so that opening a recording does not search the folder again
    holds = data.holds()

    def describe(record: Record) -> Descriptors:
        recording = data.open(record)
        if isinstance(recording, SkeletonSequence):
            assert isinstance(holds, SkeletonData)
            return describe_skeleton(recording, holds, record)
        with recording:
            return describe_video(recording, record, prepare)

    yield from map_in_threads(describe, records, progress)


def _measure(
    name: str,
    method: str,
    features: Mapping[str, Float32[np.ndarray, "N D"]],
    labels: Int[np.ndarray, " A"],
    truth: Int[np.ndarray, " B"],
    groups: Sequence[str],
    standardize: bool = True,
) -> Baseline:
    """Fit on the first rows, those of the training recordings, and test on the others."""
    started = time.monotonic()
    fitted = fit_linear({key: rows[: len(labels)] for key, rows in features.items()}, labels, groups, standardize)
    predicted = fitted.model.predict(features[fitted.description][len(labels) :])
    return _result(name, method, predicted, truth, fitted, time.monotonic() - started)


def _measure_minirocket(
    series: Sequence[Float32[np.ndarray, "F T"]],
    labels: Int[np.ndarray, " A"],
    truth: Int[np.ndarray, " B"],
    groups: Sequence[str],
) -> Baseline:
    started = time.monotonic()
    features = {"": minirocket_features(np.stack(series), len(labels))}
    prepared = time.monotonic() - started
    method = "ridge classifier on random convolutions of joint series (Dempster et al., KDD 2021)"
    row = _measure("MiniROCKET", method, features, labels, truth, groups)
    return replace(row, seconds=prepared + row.seconds)


def _prepare_motion(count: int) -> tuple[ClipPreparation | None, list[str]]:
    """What reads videos for Fisher vectors; or a notice of why they are left out."""
    if not has_optical_flow():
        return None, ["Fisher vectors are left out; install OpenCV with `pip install 'muybridge[flow]'`"]
    if count > MAX_VIDEOS:
        return None, [f"Fisher vectors are left out: {count} videos, and at most {MAX_VIDEOS} are held in memory"]
    return motion_preparation(), []


def _measure_fisher_vectors(
    described: Sequence[Descriptors],
    prepare: ClipPreparation,
    labels: Int[np.ndarray, " A"],
    truth: Int[np.ndarray, " B"],
    groups: Sequence[str],
) -> Baseline:
    started = time.monotonic()
    features = {"": fisher_features([one.motion for one in described], prepare, len(labels))}
    prepared = time.monotonic() - started
    method = "ridge classifier on Fisher vectors of HOG, HOF and MBH (Wang and Schmid, ICCV 2013)"
    row = _measure("Fisher vectors", method, features, labels, truth, groups, standardize=False)
    return replace(row, seconds=prepared + row.seconds)


def _majority(labels: Int[np.ndarray, " A"], truth: Int[np.ndarray, " B"]) -> Baseline:
    """The most frequent class of the training part for every recording."""
    counts = Counter(labels.tolist())
    best = min(counts, key=lambda label: (-counts[label], label))
    share = 100 * counts[best] / len(labels)
    row = _result("majority class", "the most frequent class of the training part", np.full_like(truth, best), truth)
    return replace(row, validation=share)


def _result(
    name: str,
    method: str,
    predicted: Int[np.ndarray, " B"],
    truth: Int[np.ndarray, " B"],
    fitted: Fitted | None = None,
    seconds: float = 0.0,
) -> Baseline:
    right = predicted == truth
    low, high = binomtest(int(right.sum()), len(truth)).proportion_ci(method="wilson")
    recalls = [right[truth == label].mean() for label in np.unique(truth)]
    chosen = [] if fitted is None else [*filter(None, [fitted.description]), f"penalty {fitted.penalty:g}"]
    return Baseline(
        name,
        method,
        top1=100 * float(right.mean()),
        interval=(100 * float(low), 100 * float(high)),
        mean_class_accuracy=100 * float(np.mean(recalls)),
        validation=None if fitted is None else fitted.validation,
        choice=", ".join(chosen),
        seconds=seconds,
    )
