"""From files, videos and arrays to predicted actions, along the same path as training and testing.

Legend: T frames, H and W pixels, C channels, P people, J joints, D coordinates, K classes.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.contracts import ClipData, Holds, SkeletonData
from muybridge.core.errors import DataError, MuybridgeWarning, RecipeError, RunError
from muybridge.core.files import find_files
from muybridge.core.packed import is_pack
from muybridge.core.types import FailedSample, Output, Prediction, SkeletonSequence
from muybridge.data.prepare import ClipPreparation, SkeletonPreparation, collate_inputs
from muybridge.data.skeleton_ops import match_layout
from muybridge.engine.bodies import Bodies, read_bodies
from muybridge.engine.calibration import Calibration, calibrated
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import Durations, read_durations
from muybridge.engine.forward import forward_in_parts, rows_at_once
from muybridge.engine.metrics import THRESHOLD
from muybridge.media.arrays import sequence_from_array
from muybridge.media.frame_array import ArrayVideo
from muybridge.media.poses import is_frame_folder, with_frame_folders
from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES
from muybridge.media.skeleton import read_skeleton
from muybridge.media.video import SUFFIXES as VIDEO_SUFFIXES
from muybridge.media.video import Video, find_videos

Item = str | os.PathLike[str] | np.ndarray | Tensor | SkeletonSequence | Video
"""What can be predicted: a path, an array, or a recording that is open already."""

Prepared = tuple[str, dict[str, Tensor]]
"""The name of a recording and the model's inputs for it."""

Reject = float | Literal["auto"] | None
"""A probability below which no class is named; "auto" is the threshold of the run's calibration."""


class Predictor:
    """A trained run that predicts actions; ``muybridge.load`` makes one.

    Args:
        run: a run folder.
        device: where the model computes; "auto" takes the GPU where there is one.
        reject: the threshold: what is less probable is ``rejected``, as none of the classes; "auto" is that of
            `muybridge test RUN --calibrate`, None rejects nothing. Of a run of several labels, all are ``chosen`` whose
            probability is not below it; None is 0.5.

    Raises:
        RunError: no such run, not trained, damaged, or made by a newer version; or "auto" of a run without a threshold.
        RecipeError: the device does not exist, or the threshold is no probability.
    """

    def __init__(self, run: str | Path, device: str | torch.device = "auto", *, reject: Reject = None) -> None:
        folder = RunFolder.open(run)
        self._take(folder, choose_device(device), read_durations(folder.path), read_bodies(folder.path), reject)

    def _take(
        self,
        run: RunFolder,
        device: torch.device,
        durations: Durations | None,
        bodies: Bodies | None,
        reject: Reject = None,
    ) -> None:
        """Sets all attributes from a run."""
        self.calibration = run.calibration()
        self.reject = choose_reject(reject, self.calibration, run.path)
        self.run = run.path
        self.recipe = run.recipe()
        self.multi_label = self.recipe.data.multi_label()
        if self.multi_label and self.reject is None:
            self.reject = THRESHOLD
        self.labels = run.labels()
        self.device = device
        self.model = run.model().to(device)
        self.prepare = self.recipe.preparation()
        self.rows = rows_at_once(self.recipe.model.takes(), device)
        self.training_durations = durations
        self.training_bodies = bodies

    def __repr__(self) -> str:
        return f"Predictor({self.recipe.model.name}, {len(self.labels)} classes)"

    def __call__(self, recording: Item, top: int = 5) -> Prediction:
        """Predict the action in one recording.

        A recording much longer than those of training gives a :class:`MuybridgeWarning`, since one label stands for
        all of it; so does a skeleton in another order of joints, with another vertical axis, or in another unit.

        Args:
            recording: for a model of skeletons, a file in any known format, a :class:`SkeletonSequence` in the layout
                of training, or an array ``T P J D`` (``T J D`` for one person; in the order of the recipe's
                ``data.axes``, where that is set) of numbers; for a model of videos, a file, a folder of frames, a
                :class:`Video`, which stays open, or an array ``T H W C`` of bytes, RGB or gray. Gray frames are
                repeated as RGB, and RGB turned to gray, as the model was trained.
            top: how many classes to return, best first; all of them if there are fewer.

        Raises:
            DataError: the recording cannot be read, or is not of the kind that the model was trained on.
            RunError: the model's scores are not finite.
            TypeError: ``recording`` is none of the above.
            ValueError: ``top`` is less than 1.
        """
        _check_top(top)
        name, inputs = self._prepared(recording)
        output = self._output([inputs])
        scores = self.probabilities(output.logits)[0].cpu()
        maps = {key: value[0].cpu() for key, value in output.maps.items()}
        return self.answer(name, scores, top, maps)

    def probabilities(self, logits: Float[Tensor, "BV K"]) -> Float[Tensor, "B K"]:
        """The probabilities of the classes from the scores of all views, calibrated where the run is."""
        return calibrated(self.prepare.average_views(logits, self.multi_label), self.calibration).exp()

    def answer(
        self, name: str, scores: Float[Tensor, " K"], top: int, maps: dict[str, Tensor] | None = None
    ) -> Prediction:
        """The prediction for a recording of a name from the probabilities of all classes."""
        answer = top_classes(name, self.labels, scores, top, maps)
        if self.multi_label:
            assert self.reject is not None
            every = top_classes(name, self.labels, scores, len(self.labels))
            pairs = zip(every.labels, every.scores, strict=True)
            chosen = tuple(label for label, probability in pairs if probability >= self.reject)
            return replace(answer, rejected=not chosen, chosen=chosen)
        return answer if self.reject is None else replace(answer, rejected=answer.scores[0] < self.reject)

    def batch(self, recordings: Sequence[Item], top: int = 5, names: Sequence[str] | None = None) -> list[Prediction]:
        """Predict the actions in several recordings together, which is faster than one by one.

        Args:
            recordings: each as for a call of the predictor; all of them are in memory at once.
            top: how many classes to return for each, best first.
            names: of the recordings that have no path, in predictions and errors; by default "recording 0" and so on.

        Returns:
            The predictions in the order of the recordings, without maps.

        Raises:
            DataError: a recording cannot be read, or is not of the kind that the model was trained on.
            RunError: the model's scores are not finite.
            TypeError: an item is no recording.
            ValueError: ``top`` is less than 1, or there are not as many names as recordings.
        """
        _check_top(top)
        names = [f"recording {number}" for number in range(len(recordings))] if names is None else names
        prepared = [self._prepared(item, name) for item, name in zip(recordings, names, strict=True)]
        return self._answers(prepared, top) if prepared else []

    def _prepared(self, recording: Item, name: str = "") -> Prepared:
        """The name of a recording, and the model's inputs for it."""
        with self.open(recording, name) as (opened, name):
            self.warn_if_unlike(opened, name)
            return name, self.prepare(opened)[0]

    def _output(self, inputs: list[dict[str, Tensor]]) -> Output:
        """The output of the model for recordings."""
        return self.forward(collate_inputs(inputs))

    def forward(self, inputs: dict[str, Tensor]) -> Output:
        """The output of the model for a batch of inputs; raises RunError if scores are not finite."""
        moved = {name: value.to(self.device) for name, value in inputs.items()}
        with torch.inference_mode():
            output = forward_in_parts(self.model, moved, self.rows)
        check_finite(output.logits, self.run)
        return output

    def scores(self, inputs: dict[str, Tensor]) -> Float[Tensor, " K"]:
        """The probabilities of the classes for a recording that is prepared; raises RunError if they are not finite."""
        return self.probabilities(self._output([inputs]).logits)[0].cpu()

    def _answers(self, prepared: Sequence[Prepared], top: int) -> list[Prediction]:
        """The predictions for recordings that are prepared, computed together."""
        output = self._output([inputs for _, inputs in prepared])
        rows = self.probabilities(output.logits).cpu()
        return [self.answer(name, row, top) for (name, _), row in zip(prepared, rows, strict=True)]

    def predict_files(
        self, paths: Iterable[str | Path], top: int = 5, *, batch: int = 8, jobs: int = 1
    ) -> Iterator[Prediction | FailedSample]:
        """Predict the action in every recording of a list of files and folders, in their order.

        A path or file that cannot be read gives a :class:`FailedSample`, and the others are predicted all the same. A
        recording that is named several times, by itself and in a folder, is predicted once. Predictions have no maps.

        Args:
            paths: recordings, and folders of them.
            top: how many classes to return for each, best first.
            batch: recordings that are computed together; no more than twice as many are in memory.
            jobs: threads that read recordings ahead.

        Raises:
            RunError: the model's scores are not finite.
            ValueError: ``top`` is less than 1.
        """
        return self.predict_found(self.find(paths), top, batch=batch, jobs=jobs)

    def predict_found(
        self, recordings: Iterable[Path | FailedSample], top: int = 5, *, batch: int = 8, jobs: int = 1
    ) -> Iterator[Prediction | FailedSample]:
        """Predict the action in each recording, as :meth:`predict_files` does for what :meth:`find` gives.

        ``batch`` recordings are computed together, counted from the first, whether they can be read or not; so the same
        recordings in the same order have exactly the same answers.

        Args:
            recordings: a file, or a folder of frames, each; it is taken from the iterator when it is about to be read.
            top, batch, jobs: see :meth:`predict_files`.

        Raises:
            RunError: the model's scores are not finite.
            ValueError: ``top`` is less than 1.
        """
        _check_top(top)
        with ThreadPoolExecutor(jobs) as pool:
            waiting: deque[Future[Prepared | FailedSample]] = deque()
            try:
                for path in recordings:
                    waiting.append(pool.submit(self._attempt, path))
                    if len(waiting) >= 2 * batch:
                        yield from self._answer_in_order(waiting, batch, top)
                while waiting:
                    yield from self._answer_in_order(waiting, batch, top)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _attempt(self, path: Path | FailedSample) -> Prepared | FailedSample:
        """The inputs for a file, or why there are none."""
        if isinstance(path, FailedSample):
            return path
        try:
            return self._prepared(path)
        except DataError as problem:
            return FailedSample(str(path), path, problem)

    def _answer_in_order(
        self, waiting: deque[Future[Prepared | FailedSample]], batch: int, top: int
    ) -> Iterator[Prediction | FailedSample]:
        """The answers to the first recordings that wait, which are computed together."""
        results = [waiting.popleft().result() for _ in range(min(batch, len(waiting)))]
        good = [result for result in results if not isinstance(result, FailedSample)]
        answers = iter(self._answers(good, top) if good else [])
        for result in results:
            yield result if isinstance(result, FailedSample) else next(answers)

    def find(self, paths: Iterable[str | Path]) -> Iterator[Path | FailedSample]:
        """The recordings of this run's kind in a list of files and folders; see :func:`find_recordings`."""
        return find_recordings(paths, self.recipe.data.holds())

    def read(self, path: Path) -> SkeletonSequence | Video:
        """A recording from a file in any known format; skeletons have as many people as in training."""
        holds = self.recipe.data.holds()
        if isinstance(holds, SkeletonData):
            return match_layout(read_skeleton(path, self.recipe.data.read_options()), holds, str(path))
        if path.suffix.lower() in SKELETON_SUFFIXES and not path.is_dir():
            raise DataError(
                "this is a file of skeletons or of text",
                expected=f"a video, which this model was trained on: {', '.join(VIDEO_SUFFIXES)} or a folder of images",
                hint="choose a video, or a run of a model of skeletons",
                where=path,
            )
        return Video(path, channels=_channels(holds))

    @contextmanager
    def open(self, recording: Item, name: str = "") -> Iterator[tuple[SkeletonSequence | Video, str]]:
        """A recording as the model needs it, and its name; what was opened here is closed at the end.

        Args:
            recording: as for a call of the predictor.
            name: of a recording without a path; by default "recording" or "array".

        Raises:
            DataError: the recording cannot be read, or is not of the kind that the model was trained on.
            TypeError: it is none of the things that can be opened.
        """
        holds = self.recipe.data.holds()
        opened: SkeletonSequence | Video
        match recording:
            case Video():
                opened, name = recording, str(recording.path)
            case SkeletonSequence():
                opened, name = recording, name or "recording"
            case str() | os.PathLike():
                path = Path(recording).expanduser()
                opened, name = self.read(path), str(path)
            case np.ndarray() | Tensor():
                name = name or "array"
                opened = self._from_array(recording, name)
            case _:
                raise TypeError(_unknown_item(recording))
        _check_kind(opened, holds, name)
        if isinstance(opened, SkeletonSequence):
            assert isinstance(holds, SkeletonData)
            yield match_layout(opened, holds, name), name
            return
        assert isinstance(holds, ClipData)
        converted = opened.as_channels(_channels(holds))
        try:
            yield converted, name
        finally:
            if converted is not recording:
                converted.close()
            if opened is not recording:
                opened.close()

    def _from_array(self, array: np.ndarray | Tensor, name: str) -> SkeletonSequence | Video:
        if isinstance(self.recipe.data.holds(), ClipData):
            return ArrayVideo(array)
        return sequence_from_array(array, options=self.recipe.data.read_options(), where=Path(name))

    def warn_if_unlike(self, recording: SkeletonSequence | Video, name: str) -> None:
        """Give a :class:`MuybridgeWarning` for a recording unlike those of training.

        It is much longer or faster, or, of skeletons, its joints seem to be in another order, along other axes, or in
        another unit.
        """
        for message in self.warnings_for(recording):
            warnings.warn(f"{name}: {message}", MuybridgeWarning, stacklevel=4)

    def warnings_for(self, recording: SkeletonSequence | Video) -> list[str]:
        """In what a recording is unlike those of training, as messages; see :meth:`warn_if_unlike`."""
        return [*self._duration_warnings(recording), *self._body_warnings(recording)]

    def _body_warnings(self, recording: SkeletonSequence | Video) -> list[str]:
        """What is unlike training in the bodies of a recording of skeletons."""
        if self.training_bodies is None or not isinstance(recording, SkeletonSequence):
            return []
        assert isinstance(self.prepare, SkeletonPreparation)
        layout, scaled = self.prepare.holds.layout, self.prepare.takes.unit_scale
        return self.training_bodies.warnings_for(recording, layout, check_size=not scaled)

    def _duration_warnings(self, recording: SkeletonSequence | Video) -> list[str]:
        """What is unlike training in the length and the frame rate of a recording."""
        if self.training_durations is None:
            return []
        clips = self.prepare if isinstance(self.prepare, ClipPreparation) else None
        consecutive = clips is not None and (
            clips.takes.frames_per_segment > 1 or clips.takes.flow or clips.view.mode != "segments"
        )
        return self.training_durations.warnings_for(recording, check_rate=consecutive)


def _check_top(top: int) -> None:
    if top < 1:
        raise ValueError(f"top is {top}; expected 1 or more classes")


def choose_reject(reject: Reject, calibration: Calibration | None, run: Path) -> float | None:
    """The threshold that is meant.

    Raises:
        RecipeError: it is no probability.
        RunError: "auto", and the run has none.
    """
    if reject is None:
        return None
    if reject != "auto":
        if isinstance(reject, str) or not 0 <= reject <= 1:
            raise RecipeError(
                f"the threshold {reject!r}",
                expected='a probability from 0 to 1, or "auto"',
                hint="correct it",
            )
        return float(reject)
    if calibration is None or calibration.reject is None:
        calibrated_before = calibration is not None
        raise RunError(
            "no recording of the validation part is answered correctly, so that no threshold was chosen"
            if calibrated_before
            else "the run has no threshold",
            expected="a run that was calibrated",
            hint="give a number" if calibrated_before else f"run `muybridge test {run} --calibrate`, or give a number",
            where=run,
        )
    return calibration.reject


def choose_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto" is the GPU where there is one, and otherwise the CPU.

    Raises:
        RecipeError: PyTorch does not know the device, or has none of its kind here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise RecipeError(
            f"the device {str(device)!r} cannot be used ({reason})",
            expected="auto, cpu, or cuda where PyTorch finds a GPU",
            hint="leave the device out, which takes the GPU where there is one",
        ) from None
    return chosen


def check_finite(scores: Tensor, run: Path) -> None:
    """Raises RunError if any score is NaN or infinite, from which no class can be chosen."""
    if not torch.isfinite(scores).all():
        raise RunError(
            "the model's scores are not finite numbers",
            expected="finite scores; the training diverged, or the weights were changed",
            hint="train again with a lower train.optimizer.lr, or restore the weights",
            where=run,
        )


def top_classes(
    name: str, labels: tuple[str, ...], scores: Float[Tensor, " K"], top: int, maps: dict[str, Tensor] | None = None
) -> Prediction:
    """The ``top`` most probable classes as a :class:`Prediction`."""
    best, order = scores.sort(descending=True, stable=True)
    return Prediction(
        id=name,
        labels=tuple(labels[index] for index in order[:top].tolist()),
        scores=tuple(best[:top].tolist()),
        maps=maps or {},
    )


def find_recordings(paths: Iterable[str | Path], holds: Holds) -> Iterator[Path | FailedSample]:
    """The recordings of a kind in a list of files and folders, each once; folders are searched for known endings.

    A path that does not exist and a folder without recordings are given as a :class:`FailedSample`. Two spellings of
    one path, such as ``a/x.mp4`` and ``./a/x.mp4``, are one recording; links are recordings of their own.
    """
    seen: set[str] = set()
    for path in (Path(path).expanduser() for path in paths):
        try:
            recordings = _recordings_at(path, holds)
        except DataError as problem:
            yield FailedSample(str(path), path, problem)
            continue
        for recording in recordings:
            key = os.path.abspath(recording)
            if key not in seen:
                seen.add(key)
                yield recording


def _recordings_at(path: Path, holds: Holds) -> list[Path]:
    """The file itself, or the recordings in a folder.

    Raises:
        DataError: the path does not exist or cannot be searched, or the folder has no recording.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            "there is no such file or folder",
            expected="a recording or a folder of them",
            hint="check the path",
            where=path,
        )
    if is_pack(path):
        raise DataError(
            "a pack, whose recordings are in tar files",
            expected="recordings that are files of their own",
            hint="answer all of them with `muybridge test RUN --data PACK`, or take some out with tar -xf",
            where=path,
        )
    skeletons = isinstance(holds, SkeletonData)
    if skeletons and is_frame_folder(path):
        return [path]
    # A file of a name that no index could hold can be predicted all the same, and must not keep the others from it.
    if skeletons:
        found = find_files(path, SKELETON_SUFFIXES, check_names=False)
    else:
        found = find_videos(path, check_names=False)
    recordings = with_frame_folders(path, found.files) if skeletons else list(found.files)
    if not recordings:
        suffixes = ", ".join(SKELETON_SUFFIXES if skeletons else VIDEO_SUFFIXES)
        raise DataError(
            f"no recording in this folder ({_describe_content(path)})",
            expected=f"files that end in {suffixes}" + ("" if skeletons else ", or folders of numbered images"),
            hint="check the path, and that the run is of the right kind",
            where=path,
        )
    return recordings


def _describe_content(folder: Path) -> str:
    """What a folder has in it, such as ``3 files: a.txt, b.txt, c.txt``."""
    try:
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    except OSError as problem:
        return f"it cannot be listed: {problem.strerror}"
    if not names:
        return "it is empty"
    more = ", ..." if len(names) > 3 else ""
    return f"it has {len(names)} {'entry' if len(names) == 1 else 'entries'}: {', '.join(names[:3])}{more}"


def _channels(holds: ClipData) -> Literal[1, 3]:
    return 1 if holds.channels == 1 else 3


def _check_kind(recording: SkeletonSequence | Video, holds: Holds, name: str) -> None:
    """Raises DataError for a video where the model takes skeletons, and the reverse."""
    skeletons = isinstance(recording, SkeletonSequence)
    if skeletons != isinstance(holds, SkeletonData):
        kinds = ("skeletons", "a video") if skeletons else ("a video", "skeletons")
        raise DataError(
            f"the recording is {kinds[0]}",
            expected=f"{kinds[1]}, which this model was trained on",
            hint="choose a recording of this kind, or a run of the other kind",
            where=name,
        )


def _unknown_item(item: object) -> str:
    several = isinstance(item, list | tuple | set | Iterator)
    hint = "Call it once for each recording." if several else "Pass one of these."
    return (
        f"cannot predict {type(item).__name__!r}. Expected a path (str or pathlib.Path), a Video, a SkeletonSequence, "
        "or one NumPy array or torch tensor: T H W C of uint8 for a model of videos, T P J D (or T J D) of numbers for "
        f"a model of skeletons. {hint}"
    )
