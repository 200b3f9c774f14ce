"""Everything there is to look at in a run folder, drawn into RUN/pictures."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Split
from muybridge.data.prepare import stack
from muybridge.data.skeleton_ops import clean_skeleton
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.journal import Journal
from muybridge.viz.attention import draw_attention_matrix
from muybridge.viz.confusion import draw_confusion
from muybridge.viz.curves import draw_curves
from muybridge.viz.film import animate_skeleton
from muybridge.viz.skeleton import draw_skeleton_sheet


def draw_run(
    run: str | Path, sample: str | None = None, split: Split = "test", video: Literal["gif", "mp4"] = "gif"
) -> list[Path]:
    """Learning curves, confusion matrix, and one recording with what the model attends to.

    Args:
        run: a run folder; an unfinished one gives its curves only.
        sample: record id of the recording to draw; None takes the first of the split.
        split: of the confusion matrix (tested if that was not done yet) and of the recording.
        video: "gif" or "mp4".

    Returns:
        The files, in the order above.

    Raises:
        RunError: no such run, or nothing trained yet.
        DataError: no such recording.
    """
    folder = RunFolder.open(run)
    pictures = folder.path / "pictures"
    pictures.mkdir(exist_ok=True)
    title = folder.recipe().title or folder.recipe().model.spec.title
    draw_curves(Journal(folder.path / "journal.jsonl").rows(), pictures / "curves.png", title=title)
    drawn = [pictures / "curves.png"]
    if not folder.finished:
        return drawn
    if not (folder.path / f"{split}.json").is_file():
        evaluate(folder, split)
    counts = np.array(json.loads((folder.path / f"{split}.json").read_text(encoding="utf-8"))["confusion"])
    draw_confusion(counts, folder.labels(), pictures / f"confusion-{split}.png", title=f"{title}: {split}")
    return [*drawn, pictures / f"confusion-{split}.png", *_draw_sample(folder, _find(folder, sample, split), video)]


def _find(folder: RunFolder, sample: str | None, split: Split) -> Record:
    records = folder.recipe().data.index(split).records
    chosen = next((one for one in records if sample in (None, one.id)), None)
    if chosen is None:
        raise DataError(
            f"no recording {sample!r} in {split}",
            expected=f"a record id such as {records[0].id}",
            cure=f"choose one; {folder.path / f'{split}-answers.csv'} lists them",
        )
    return chosen


def _draw_sample(folder: RunFolder, record: Record, video: str) -> list[Path]:
    """Sheet, film and attention matrix of one recording, named after it."""
    recipe, labels = folder.recipe(), folder.labels()
    takes, holds = recipe.model.takes(), recipe.data.holds()
    recording = recipe.data.open(record)
    if not (isinstance(recording, SkeletonSequence) and isinstance(takes, SkeletonInput)):
        return []
    assert isinstance(holds, SkeletonData)
    inputs, _ = recipe.preparation()(recording)
    with torch.inference_mode():
        output = folder.model()(**stack([inputs]))
    chances = output.logits[0].softmax(0)
    best = int(chances.argmax())
    title = f"{record.id}: {labels[record.label]}; seen as {labels[best]} ({chances[best]:.0%})"
    maps = {name: value[0] for name, value in output.maps.items()}
    alpha, beta, derivative = maps.get("alpha"), maps.get("beta"), maps.get("derivative_norm")
    seen = clean_skeleton(recording, takes, holds)
    stem = folder.path / "pictures" / Path(record.id).as_posix().replace("/", "-")
    sheet, film = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.{video}")
    draw_skeleton_sheet(seen, holds.layout, sheet, alpha=alpha, beta=beta, derivative=derivative, title=title)
    animate_skeleton(seen, holds.layout, film, alpha=alpha, beta=beta, derivative=derivative, title=title)
    if alpha is None:
        return [sheet, film]
    matrix = stem.with_name(f"{stem.name}-attention.png")
    draw_attention_matrix(alpha, beta, holds.layout.joints, matrix, title=title)
    return [sheet, film, matrix]
