"""Everything there is to look at in a run folder, drawn into RUN/pictures.

Legend: T frames, S segments, V views, U different frames, h and w positions of a map, C channels.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.types import Output, Record, SkeletonSequence
from muybridge.data.clip_ops import prepare_clip
from muybridge.data.datasets.base import Split
from muybridge.data.prepare import ClipPreparation, collate_inputs, frame_indices
from muybridge.data.skeleton_ops import clean_skeleton
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.journal import Journal
from muybridge.localize import Localizer
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Predictor, check_finite
from muybridge.recipe import Recipe
from muybridge.viz.animation import animate_skeleton
from muybridge.viz.attention import draw_attention_matrix
from muybridge.viz.clip import animate_clip, draw_clip_sheet, drawn_frames
from muybridge.viz.confusion import draw_confusion
from muybridge.viz.curves import draw_curves
from muybridge.viz.names import file_stem, record_stem
from muybridge.viz.skeleton import draw_skeleton_sheet
from muybridge.viz.style import clean_text, writable
from muybridge.viz.tubes import DrawnFrames, describe_runs, draw_tubes

SPLITS: tuple[Split, ...] = ("test", "val", "train")


def draw_run(
    run: str | Path,
    sample: str | Path | None = None,
    split: Split = "test",
    video: Literal["gif", "mp4"] = "gif",
    beside: str | Path | None = None,
    data: str | Path | None = None,
) -> list[Path]:
    """Learning curves, confusion matrix, and one recording with the model's attention or class activation.

    Args:
        run: a run folder; an unfinished one gives its curves only.
        sample: record id, in any split, of the recording to draw, or the path of a new recording; None takes the first
            of the split.
        split: of the confusion matrix (tested if that was not done yet) and of the recording.
        video: suffix of the animation.
        beside: another run on videos, whose maps are drawn beside those of the first.
        data: where the data set is now, if it was moved since the training.

    Returns:
        The files, in the order above.

    Raises:
        RunError: no such run, nothing trained yet, the images cannot be written, or one of two runs has no maps.
        DataError: no such recording, or the data set is not where it was.
    """
    folder = RunFolder.open(run)
    moved = None if data is None else Path(data)
    pictures = folder.path / "pictures"
    with writable(pictures):
        pictures.mkdir(exist_ok=True)
    recipe = folder.recipe(moved)
    title = recipe.title or recipe.model.spec.title
    journal, drawn = Journal(folder.path / "journal.jsonl"), []
    if journal.path.exists() or not folder.finished:  # a converted run was not trained here
        draw_curves(journal.rows(), pictures / "curves.png", title=title)
        drawn.append(pictures / "curves.png")
    if not folder.finished:
        return drawn
    chosen = _find_sample(recipe, sample, split)
    if not (folder.path / f"{split}.json").is_file():
        evaluate(folder, split, data=moved)
    if recipe.data.multi_label():  # no class is taken for another one
        return [*drawn, *_draw_sample(folder, recipe, chosen, video, beside)]
    counts = np.array(json.loads((folder.path / f"{split}.json").read_text(encoding="utf-8"))["confusion"])
    draw_confusion(counts, folder.labels(), pictures / f"confusion-{split}.png", title=f"{title}: {split}")
    drawn.append(pictures / f"confusion-{split}.png")
    return [*drawn, *_draw_sample(folder, recipe, chosen, video, beside)]


@dataclass(frozen=True, slots=True)
class _Sample:
    """A recording to draw.

    Attributes:
        record: its record; of a new recording, one without a label.
        stem: name of its files, without a suffix.
        new: whether it is not in the data set.
    """

    record: Record
    stem: str
    new: bool = False


def _find_sample(recipe: Recipe, sample: str | Path | None, split: Split) -> _Sample:
    """The record of an id, in the split that was named or another one; or the recording at a path.

    Raises:
        DataError: neither a record nor a file.
    """
    path = None if sample is None else Path(sample).expanduser()
    records: list[Record] = []
    for part in dict.fromkeys((split, *SPLITS)):
        try:
            records += recipe.data.index(part).records
        except DataError:  # not every data set has every split; the one that was asked for has to be there
            if part == split and (path is None or not path.exists()):
                raise
    record = next((record for record in records if sample is None or record.id == str(sample)), None)
    if record is not None:
        return _Sample(record, record_stem(record, records))
    if path is not None and path.exists():
        return _Sample(Record(path.name, path, -1), file_stem(path), new=True)
    near = difflib.get_close_matches(str(sample), [record.id for record in records], n=3, cutoff=0.3)
    raise DataError(
        f"{str(sample)!r} is no recording of the data set, and there is no file of this name",
        expected=f"a record id such as {', '.join(near or [records[0].id])}, or the path of a recording",
        hint=f"choose one; {split}-predictions.csv in the run folder lists those of {split}",
    )


def _draw_sample(
    folder: RunFolder, recipe: Recipe, sample: _Sample, video: str, beside: str | Path | None
) -> list[Path]:
    """Sheet and animation of one recording, and the attention matrix where there is one."""
    predictor = Predictor(folder.path)
    recording = predictor.read(sample.record.path) if sample.new else recipe.data.open(sample.record)
    if isinstance(recording, SkeletonSequence):
        return _draw_skeleton(predictor, recording, sample, video)
    with recording:
        return _draw_video(folder, recipe, predictor, recording, sample, video, beside)


def _title(predictor: Predictor, sample: _Sample, predicted: str = "") -> str:
    """The recording, its true class where that is known, and what was predicted."""
    record = sample.record
    classes = ([f"true: {clean_text(record.label_text(predictor.labels))}"] if record.label >= 0 else []) + (
        [predicted] if predicted else []
    )
    return " · ".join([_shortened(clean_text(sample.record.id)), *([", ".join(classes)] if classes else [])])


def _shortened(name: str) -> str:
    """A name of which a title has room beside the classes; of a longer one, beginning and end."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2]}…{name[-_LONGEST_NAME // 2 :]}"


def _predict(predictor: Predictor, recording: SkeletonSequence | Video, sample: _Sample) -> tuple[Output, str, str]:
    """The output of the model, the predicted class, and a title that says so."""
    model, prepare, labels = predictor.model, predictor.prepare, predictor.labels
    assert isinstance(model, Model)
    model.return_maps = True
    inputs, _ = prepare(recording, name=None if sample.new else sample.record.id)
    with torch.inference_mode():
        output = model(**{key: value.to(predictor.device) for key, value in collate_inputs([inputs]).items()})
    check_finite(output.logits, predictor.run)
    scores = predictor.probabilities(output.logits)[0]
    best = int(scores.argmax())
    label = clean_text(labels[best])
    title = _title(predictor, sample, f"predicted: {label} ({100 * float(scores[best]):.0f} %)")
    return Output(output.logits.cpu(), {name: maps.cpu() for name, maps in output.maps.items()}), label, title


def _draw_skeleton(predictor: Predictor, recording: SkeletonSequence, sample: _Sample, video: str) -> list[Path]:
    takes, holds = predictor.recipe.model.takes(), predictor.recipe.data.holds()
    assert isinstance(takes, SkeletonInput)
    assert isinstance(holds, SkeletonData)
    output, _, title = _predict(predictor, recording, sample)
    stem = predictor.run / "pictures" / sample.stem
    maps = {name: value[0] for name, value in output.maps.items()}
    alpha, beta, derivative = maps.get("alpha"), maps.get("beta"), maps.get("derivative_norm")
    clean = clean_skeleton(recording, takes, holds)
    sheet, moving = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{video}")
    draw_skeleton_sheet(clean, holds.layout, sheet, alpha=alpha, beta=beta, derivative=derivative, title=title)
    animate_skeleton(clean, holds.layout, moving, alpha=alpha, beta=beta, derivative=derivative, title=title)
    if alpha is None:
        return [sheet, moving]
    matrix = stem.with_name(f"{stem.name}-attention.png")
    draw_attention_matrix(alpha, beta, holds.layout.joints, matrix, title=title)
    return [sheet, moving, matrix]


def _draw_video(
    folder: RunFolder,
    recipe: Recipe,
    predictor: Predictor,
    recording: Video,
    sample: _Sample,
    video: str,
    beside: str | Path | None,
) -> list[Path]:
    output, label, title = _predict(predictor, recording, sample)
    stem = folder.path / "pictures" / sample.stem
    if beside is None and "attention" not in output.maps:
        assert isinstance(predictor.prepare, ClipPreparation)
        return _draw_clip(recording, predictor.prepare, output.maps, stem, video, title, label)
    runs = [folder.path] if beside is None else [folder.path, Path(beside).expanduser()]
    name = None if sample.new else sample.record.id
    results = {text: Localizer(run)(recording, name) for text, run in zip(describe_runs(runs), runs, strict=True)}
    truth = None if sample.new else recipe.data.boxes(sample.record)
    # Each run's own prediction, averaged over clips that cover the video, is at its row.
    return draw_tubes(results, DrawnFrames.of(recording), stem, video, _title(predictor, sample), truth)


_LONGEST_NAME = 60
_FEWEST = 3  # positions along a side of a map; one that has fewer is not drawn
_LABELS = {"class_activation": "class activation\nof {}", "differences": "change within\nthe segment"}


def _draw_clip(
    recording: Video,
    prepare: ClipPreparation,
    maps: dict[str, Tensor],
    stem: Path,
    suffix: str,
    title: str,
    label: str,
) -> list[Path]:
    """Sheet of the frames that the model was shown, and animation of the whole video, with its maps laid over."""
    frames, maps = _maps_by_frame(recording, prepare, maps)
    heats = {name: value.clamp(min=0) if name == "class_activation" else value.abs() for name, value in maps.items()}
    fine = {name: heat for name, heat in heats.items() if heat.ndim == 3 and min(heat.shape[1:]) >= _FEWEST}
    rows = {_LABELS.get(name, _gate_label(name)).format(label): heat.numpy() for name, heat in fine.items()}
    marks, windows = _similarity_windows(maps, heats)
    sheet, moving = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{suffix}")
    captions = [f"{recording.seconds[number]:.2f} s" for number in frames]
    pixels = replace(prepare, takes=replace(prepare.takes, pixels=True, flow=False))
    images = _to_images(pixels.frames(recording, frames.tolist())["video"], pixels)
    draw_clip_sheet(images, rows, sheet, windows=windows, marks=marks, captions=captions, title=title)
    if "class_activation" not in heats:
        return [sheet]
    panels = {
        _LABELS[name].format(label).replace("\n", " "): heats[name].numpy()
        for name in [name for name in _LABELS if name in fine] or ["class_activation"]
    }
    _animate_video(recording, pixels, frames, panels, moving, title)
    return [sheet, moving]


def _maps_by_frame(
    recording: Video, prepare: ClipPreparation, maps: Mapping[str, Tensor]
) -> tuple[np.ndarray, dict[str, Tensor]]:
    """The numbers of the frames that the maps of a model belong to, and the maps, ``U ...``."""
    takes, view = prepare.takes, prepare.view
    numbers = np.array(frame_indices(prepare.usable(recording), takes, view, 1.0))
    step = takes.frames_per_segment if takes.segments > 1 else 1  # a map for each segment, or for each frame
    frames, places = np.unique(numbers[step // 2 :: step], return_inverse=True)
    # The first crop of each clip that runs forwards.
    views = slice(0, view.clips * view.crops_per_clip, view.crops_per_clip)
    return frames, {name: _average_maps(value[views], places) for name, value in maps.items() if value.ndim > 3}


def _similarity_windows(
    maps: Mapping[str, Tensor], heats: Mapping[str, Tensor]
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """For models of self-similarity: the most active place of each frame, and where that place is in the next one."""
    similarity = next((value for name, value in maps.items() if name.startswith("similarity")), None)
    if similarity is None:
        return None, {}
    marks = _peaks(heats["class_activation"].numpy())
    rows, columns = (marks * similarity.shape[1:3]).astype(int).T
    # From one segment to the next, where the model's window reaches that far.
    ahead = min(similarity.shape[3] // 2 + 1, similarity.shape[3] - 1)
    windows = [similarity[t, y, x, ahead].numpy() for t, (y, x) in enumerate(zip(rows, columns, strict=True))]
    return marks, {"similarity of\nthe place to the\nnext segment": np.stack(windows)}


def _animate_video(
    recording: Video,
    prepare: ClipPreparation,
    frames: np.ndarray,
    panels: Mapping[str, Float[np.ndarray, "S h w"]],
    path: Path,
    title: str,
) -> None:
    """The whole video, with maps interpolated between the frames that they belong to."""
    chosen, fps, note = drawn_frames(len(recording), recording.fps)
    clip = recording.read(chosen, short_side=max(240, prepare.takes.size))
    images = _to_images(prepare_clip(clip, prepare.takes, prepare.view), prepare)
    heats = {label: _interpolate(frames, heat, np.array(chosen)) for label, heat in panels.items()}
    captions = [
        f"frame {number + 1} of {len(recording)} · {second:.2f} s{note}"
        for number, second in zip(chosen, clip.seconds.tolist(), strict=True)
    ]
    animate_clip(images, heats, path, fps=fps, title=title, captions=captions)


def _average_maps(maps: Float[Tensor, "V S ..."], places: np.ndarray) -> Float[Tensor, "U ..."]:
    """The maps of all views, averaged over those of the same frame."""
    rows = rearrange(maps, "v s ... -> (v s) ...")
    index = torch.from_numpy(places)
    sums = torch.zeros(int(index.max()) + 1, *rows.shape[1:]).index_add_(0, index, rows)
    return sums / rearrange(torch.bincount(index), f"u -> u {'1 ' * (rows.ndim - 1)}")


def _to_images(video: Float[Tensor, "T C S S"], prepare: ClipPreparation) -> UInt8[np.ndarray, "T S S 3"]:
    """The model's input without its normalization."""
    mean, std = torch.tensor(prepare.takes.mean), torch.tensor(prepare.takes.std)
    if video.shape[1] != len(mean):
        mean, std = mean.mean().expand(video.shape[1]), std.mean().expand(video.shape[1])
    images = (video * rearrange(std, "c -> c 1 1") + rearrange(mean, "c -> c 1 1")).clamp(0, 1)
    return rearrange((255 * images).round().byte().expand(-1, 3, -1, -1), "t c h w -> t h w c").numpy()


def _gate_label(name: str) -> str:
    """The label of a map of gates, ``gates_res4``."""
    return f"change between\nsegments ({name.rpartition('_')[2]})"


def _peaks(heat: Float[np.ndarray, "T h w"]) -> Float[np.ndarray, "T 2"]:
    """Row and column of each maximum, as shares of the map."""
    places = np.stack(np.unravel_index(rearrange(heat, "t h w -> t (h w)").argmax(1), heat.shape[1:]), axis=1)
    return (places + 0.5) / heat.shape[1:]


def _interpolate(known: np.ndarray, heat: Float[np.ndarray, "S h w"], frames: np.ndarray) -> Float[np.ndarray, "T h w"]:
    """Heat of each of ``frames``, linearly between the frames at which it is known."""
    after = np.searchsorted(known, frames).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    share = np.clip((frames - known[before]) / np.maximum(known[after] - known[before], 1), 0, 1)[:, None, None]
    return (1 - share) * heat[before] + share * heat[after]
