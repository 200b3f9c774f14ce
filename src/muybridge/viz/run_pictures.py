"""Everything there is to look at in a run folder, drawn into RUN/pictures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.types import Record
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
from muybridge.viz.animation import animate_skeleton
from muybridge.viz.attention import draw_attention_matrix
from muybridge.viz.clip import animate_clip, draw_clip_sheet
from muybridge.viz.confusion import draw_confusion
from muybridge.viz.curves import draw_curves
from muybridge.viz.skeleton import draw_skeleton_sheet
from muybridge.viz.tubes import LONGEST, describe_run, draw_tubes


def draw_run(
    run: str | Path,
    sample: str | None = None,
    split: Split = "test",
    video: Literal["gif", "mp4"] = "gif",
    beside: str | Path | None = None,
) -> list[Path]:
    """Learning curves, confusion matrix, and one recording with what the model attends to.

    Args:
        run: a run folder; an unfinished one gives its curves only.
        sample: record id of the recording to draw; None takes the first of the split.
        split: of the confusion matrix (tested if that was not done yet) and of the recording.
        video: "gif" or "mp4".
        beside: another run on videos, whose looks are drawn beside those of the first.

    Returns:
        The files, in the order above.

    Raises:
        RunError: no such run, nothing trained yet, or one of two runs does not say where it looks.
        DataError: no such recording.
    """
    folder = RunFolder.open(run)
    pictures = folder.path / "pictures"
    pictures.mkdir(exist_ok=True)
    title = folder.recipe().title or folder.recipe().model.spec.title
    journal, drawn = Journal(folder.path / "journal.jsonl"), []
    if journal.path.exists() or not folder.finished:  # an adopted run was not trained here
        draw_curves(journal.rows(), pictures / "curves.png", title=title)
        drawn.append(pictures / "curves.png")
    if not folder.finished:
        return drawn
    if not (folder.path / f"{split}.json").is_file():
        evaluate(folder, split)
    counts = np.array(json.loads((folder.path / f"{split}.json").read_text(encoding="utf-8"))["confusion"])
    draw_confusion(counts, folder.labels(), pictures / f"confusion-{split}.png", title=f"{title}: {split}")
    drawn.append(pictures / f"confusion-{split}.png")
    return [*drawn, *_draw_sample(folder, _find(folder, sample, split), video, beside)]


def _find(folder: RunFolder, sample: str | None, split: Split) -> Record:
    records = folder.recipe().data.index(split).records
    chosen = next((one for one in records if sample in (None, one.id)), None)
    if chosen is None:
        raise DataError(
            f"no recording {sample!r} in {split}",
            expected=f"a record id such as {records[0].id}",
            hint=f"choose one; {folder.path / f'{split}-predictions.csv'} lists them",
        )
    return chosen


def _draw_sample(folder: RunFolder, record: Record, video: str, beside: str | Path | None) -> list[Path]:
    """Sheet and film of one recording, and the attention matrix where there is one, named after it."""
    recipe, labels = folder.recipe(), folder.labels()
    takes, holds = recipe.model.takes(), recipe.data.holds()
    # Ids of the user's own files end in a suffix, of which a picture has one of its own.
    name = record.id.removesuffix(record.path.suffix) if record.path.is_file() else record.id
    stem = folder.path / "pictures" / name.replace("/", "-")
    recording = recipe.data.open(record)
    prepare, model = recipe.preparation(), folder.model()
    assert isinstance(model, Model)
    model.return_maps = True
    inputs, _ = prepare(recording, name=record.id)
    with torch.inference_mode():
        output = model(**collate_inputs([inputs]))
    chances = prepare.average_views(output.logits)[0].exp()
    best = int(chances.argmax())
    title = f"{record.id}: {labels[record.label]}; seen as {labels[best]} ({chances[best]:.0%})"
    if isinstance(recording, Video):
        assert isinstance(prepare, ClipPreparation)
        with recording:
            if beside is None and "attention" not in output.maps:
                return _draw_clip(recording, prepare, output.maps, stem, video, title, labels[best])
            looking = [folder.path] if beside is None else [folder.path, beside]
            located = {describe_run(run): Localizer(run)(recording, record.id) for run in looking}
            return draw_tubes(located, recording, stem, video, title, recipe.data.boxes(record))
    maps = {name: value[0] for name, value in output.maps.items()}
    assert isinstance(takes, SkeletonInput)
    assert isinstance(holds, SkeletonData)
    alpha, beta, derivative = maps.get("alpha"), maps.get("beta"), maps.get("derivative_norm")
    seen = clean_skeleton(recording, takes, holds)
    sheet, film = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{video}")
    draw_skeleton_sheet(seen, holds.layout, sheet, alpha=alpha, beta=beta, derivative=derivative, title=title)
    animate_skeleton(seen, holds.layout, film, alpha=alpha, beta=beta, derivative=derivative, title=title)
    if alpha is None:
        return [sheet, film]
    matrix = stem.with_name(f"{stem.name}-attention.png")
    draw_attention_matrix(alpha, beta, holds.layout.joints, matrix, title=title)
    return [sheet, film, matrix]


_FEWEST = 3  # positions along a side of a map; one that has fewer points nowhere
_WORDS = {"class_activation": "what speaks for\n{}", "differences": "change within\nthe segment"}


def _draw_clip(
    recording: Video,
    prepare: ClipPreparation,
    maps: dict[str, Tensor],
    stem: Path,
    suffix: str,
    title: str,
    label: str,
) -> list[Path]:
    """Sheet of what was seen and film of the whole video, with class activation and change laid over."""
    takes, view_config = prepare.takes, prepare.view
    numbers = np.array(frame_indices(prepare.usable(recording), takes, view_config, 1.0))
    each = takes.frames_per_segment if takes.segments > 1 else 1  # a map for each segment, or for each frame
    at, slots = np.unique(numbers[each // 2 :: each], return_inverse=True)
    firsts = slice(
        0, view_config.clips * view_config.crops_per_clip, view_config.crops_per_clip
    )  # crops of the clips as they run forwards
    maps = {name: _at_each(one[firsts], slots) for name, one in maps.items() if one.ndim > 3}
    heats = {name: one.clamp(min=0) if name == "class_activation" else one.abs() for name, one in maps.items()}
    fine = {name: one for name, one in heats.items() if one.ndim == 3 and min(one.shape[1:]) >= _FEWEST}
    rows = {_WORDS.get(name, _between(name)).format(label): one.numpy() for name, one in fine.items()}
    marks, windows = None, {}
    for name, similarity in maps.items():
        if name.startswith("similarity"):
            marks, seen = _most_active(heats["class_activation"].numpy()), similarity.shape[3] // 2
            # From one segment to the next, where the model looks that far.
            ahead = min(seen + 1, similarity.shape[3] - 1)
            rows_, columns = (marks * similarity.shape[1:3]).astype(int).T
            windows["where the place\nis in the\nnext segment"] = np.stack(
                [similarity[t, y, x, ahead].numpy() for t, (y, x) in enumerate(zip(rows_, columns, strict=True))]
            )
    sheet, film = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{suffix}")
    captions = [f"{recording.seconds[number]:.2f} s" for number in at]
    seen = replace(prepare, takes=replace(takes, pixels=True, flow=False))
    shown = _pixels(seen.frames(recording, at.tolist())["video"], seen)
    draw_clip_sheet(shown, rows, sheet, windows=windows, marks=marks, captions=captions, title=title)
    if "class_activation" not in heats:
        return [sheet]
    every = range(0, len(recording), -(-len(recording) // LONGEST))
    whole = _pixels(prepare_clip(recording.read(every, short_side=max(240, takes.size)), takes, view_config), prepare)
    telling = [name for name in _WORDS if name in fine] or ["class_activation"]
    panels = {
        _WORDS[name].format(label).replace("\n", " "): _in_between(at, heats[name].numpy(), np.array(every))
        for name in telling
    }
    animate_clip(whole, panels, film, fps=recording.fps / every.step, title=title)
    return [sheet, film]


def _at_each(maps: Float[Tensor, "V S ..."], slots: np.ndarray) -> Float[Tensor, "U ..."]:
    """The maps of all views, those of the same moment averaged."""
    every = rearrange(maps, "v s ... -> (v s) ...")
    places = torch.from_numpy(slots)
    sums = torch.zeros(int(places.max()) + 1, *every.shape[1:]).index_add_(0, places, every)
    return sums / rearrange(torch.bincount(places), f"u -> u {'1 ' * (every.ndim - 1)}")


def _pixels(video: Float[Tensor, "T C S S"], prepare: ClipPreparation) -> Float[np.ndarray, "T S S 3"]:
    """What the model saw, as colours of 0..1."""
    mean, std = torch.tensor(prepare.takes.mean), torch.tensor(prepare.takes.std)
    if video.shape[1] != len(mean):
        mean, std = mean.mean().expand(video.shape[1]), std.mean().expand(video.shape[1])
    colours = (video * rearrange(std, "c -> c 1 1") + rearrange(mean, "c -> c 1 1")).clamp(0, 1)
    return rearrange(colours.expand(-1, 3, -1, -1), "t c h w -> t h w c").numpy()


def _between(name: str) -> str:
    """Words for a map of gates, ``gates_res4``."""
    return f"change between\nsegments ({name.rpartition('_')[2]})"


def _most_active(heat: Float[np.ndarray, "T h w"]) -> Float[np.ndarray, "T 2"]:
    """Row and column of each maximum, as shares of the map."""
    places = np.stack(np.unravel_index(rearrange(heat, "t h w -> t (h w)").argmax(1), heat.shape[1:]), axis=1)
    return (places + 0.5) / heat.shape[1:]


def _in_between(at: np.ndarray, heat: Float[np.ndarray, "S h w"], frames: np.ndarray) -> Float[np.ndarray, "T h w"]:
    """Heat of each frame, by straight lines between the segments' middle frames."""
    after = np.searchsorted(at, frames).clip(0, len(at) - 1)
    before = (after - 1).clip(0)
    share = np.clip((frames - at[before]) / np.maximum(at[after] - at[before], 1), 0, 1)[:, None, None]
    return (1 - share) * heat[before] + share * heat[after]
