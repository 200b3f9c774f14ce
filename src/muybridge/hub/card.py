"""The model card of a run: what it is, how to use it, its scores, and where it differs from the paper."""

import json
from typing import Any

from muybridge.core.contracts import ClipInput, SkeletonData
from muybridge.data.datasets.base import require_one_label
from muybridge.engine.baselines import read_baselines
from muybridge.engine.checkpoint import RunFolder
from muybridge.hub.public import public_recipe
from muybridge.recipe import Recipe, dump

MOST_LABELS = 100
"""Class names that a card lists; more are in labels.txt."""

_PARTS = {"test": "test part", "val": "validation part"}


def model_card(run: RunFolder, name: str, license: str = "") -> str:
    """The card in Markdown, with the hub's metadata in front.

    Args:
        run: trained; its scores are those of the tests that were run.
        name: of the repository.
        license: of the weights, as the hub names it.
    """
    recipe = public_recipe(run.read_recipe())
    require_one_label(recipe.data, "a model card")
    scores = {part: _read(run, part) for part in _PARTS}
    sections = [
        _head(recipe, name, run.facts()["muybridge"]),
        _usage(recipe, name),
        _scores(run, {part: found for part, found in scores.items() if found}),
        _classes(run.labels()),
        _differences(recipe),
        _recipe(recipe),
    ]
    return _metadata(recipe, name, license, scores["test"]) + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(recipe: Recipe, name: str, license: str, scores: dict[str, Any] | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    skeletons = isinstance(recipe.data.holds(), SkeletonData)
    results = None
    if scores:
        kinds = {"accuracy": "top1", "mean class accuracy": "mean_class_accuracy"}
        results = [
            EvalResult(
                task_type="video-classification",
                task_name="action recognition",
                dataset_type=recipe.data.name,
                dataset_name=recipe.data.name,
                dataset_split="test",
                metric_type="accuracy",
                metric_name=title,
                metric_value=round(scores[key], 2),
            )
            for title, key in kinds.items()
        ]
    data = ModelCardData(
        model_name=name.split("/")[1] if results else None,
        eval_results=results,
        library_name="muybridge",
        license=license or None,
        pipeline_tag=None if skeletons else "video-classification",
        tags=["action-recognition", "skeleton" if skeletons else "video", recipe.model.name],
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _head(recipe: Recipe, name: str, version: str) -> str:
    spec = recipe.model.spec
    code = f", [code of its authors]({spec.code})" if spec.code else ""
    return (
        f"# {recipe.title or name.split('/')[1]}\n\n"
        f"{spec.title}, from [{spec.paper}]({spec.link}){code}; trained with muybridge {version} "
        f"on the data set `{recipe.data.name}`.\n\n{_input(recipe)}"
    )


def _input(recipe: Recipe) -> str:
    takes, holds = recipe.model.takes(), recipe.data.holds()
    if isinstance(holds, SkeletonData):
        layout = holds.layout
        return (
            f"It takes skeletons of the layout `{layout.name}`: {len(layout)} joints, {holds.coordinates} coordinates, "
            f"up to {holds.people} {'person' if holds.people == 1 else 'people'}."
        )
    assert isinstance(takes, ClipInput)
    kinds = [kind for kind, taken in (("frames", takes.pixels), ("optical flow", takes.flow)) if taken]
    frames = takes.segments * takes.frames_per_segment
    return f"It takes videos: {' and '.join(kinds)}, {frames} of them a clip, {takes.size} x {takes.size} pixels."


def _usage(recipe: Recipe, name: str) -> str:
    file = "recording.npz" if isinstance(recipe.data.holds(), SkeletonData) else "video.mp4"
    return (
        "## Use\n\n```python\nimport muybridge\n\n"
        f'predictor = muybridge.load("hf://{name}")\nprint(predictor("{file}"))\n```\n\n'
        f"```sh\nmuybridge predict hf://{name} {file}\nmuybridge serve hf://{name}\n```\n\n"
        "The weights are a safetensors file and the recipe is text; loading runs no code from here."
    )


def _scores(run: RunFolder, scores: dict[str, dict[str, Any]]) -> str:
    if not scores:
        return "## Scores\n\nThis run was not tested."
    rows = [
        f"| {_PARTS[part]} | {found['top1']:.2f} | {found['mean_class_accuracy']:.2f} | {found['top5']:.2f} | "
        f"{found['count']} | {found['excluded']} |"
        for part, found in scores.items()
    ]
    header = "| | top-1 % | mean of classes % | top-5 % | recordings | excluded |\n|---|---|---|---|---|---|\n"
    text = f"## Scores\n\n{header}" + "\n".join(rows)
    calibration, baselines = run.calibration(), read_baselines(run)
    if calibration:
        text += (
            f"\n\nProbabilities are calibrated: expected calibration error on validation "
            f"{calibration.error_before:.1f} % before, {calibration.error_after:.1f} % after."
        )
    if baselines and "test" in scores and baselines.count == scores["test"]["count"]:
        lines = [f"| {row.name} | {row.top1:.2f} | {row.method} |" for row in baselines.rows]
        text += "\n\nSimple baselines on the same recordings:\n\n| | top-1 % | |\n|---|---|---|\n" + "\n".join(lines)
    return text


def _classes(labels: tuple[str, ...]) -> str:
    listed = ", ".join(f"`{label}`" for label in labels[:MOST_LABELS])
    more = f" and {len(labels) - MOST_LABELS} more, in labels.txt" if len(labels) > MOST_LABELS else ""
    return f"## Classes\n\n{len(labels)}: {listed}{more}"


def _differences(recipe: Recipe) -> str:
    differences = recipe.model.spec.differences
    if not differences:
        return ""
    lines = [f"- **{name}**: {reason}" for name, reason in differences.items()]
    return "## Differences from the paper\n\n" + "\n".join(lines)


def _recipe(recipe: Recipe) -> str:
    import tomli_w

    return f"## Recipe\n\n```toml\n{tomli_w.dumps(dump(recipe)).strip()}\n```"


def _read(run: RunFolder, part: str) -> dict[str, Any] | None:
    path = run.path / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
