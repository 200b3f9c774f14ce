"""The page itself: each section from the facts of a run, or of several."""

import tempfile
from collections.abc import Sequence
from html import escape
from itertools import combinations
from pathlib import Path

import numpy as np

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError, RunError
from muybridge.core.files import atomic_write
from muybridge.engine.calibration import reliability
from muybridge.engine.journal import Journal
from muybridge.recipe import dump
from muybridge.recipe_text import toml_value
from muybridge.viz.confusion import draw_confusion
from muybridge.viz.curves import draw_curves
from muybridge.viz.report.facts import RunFacts
from muybridge.viz.report.films import films
from muybridge.viz.report.html import Cell, note, number, page, picture, section, table
from muybridge.viz.report.statistics import bootstrap_top1, mcnemar
from muybridge.viz.report.thumbnails import thumbnail
from muybridge.viz.style import writable

_SHOWN = 48
"""Wrong recordings with a picture."""


def write_report(runs: Sequence[RunFacts], path: Path) -> Path:
    """Write the page of one run, or of several side by side with paired tests.

    Args:
        runs: tested on the same part.
        path: of the HTML file; it needs no other file and no connection.

    Raises:
        RunError: the file cannot be written.
    """
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs compared"
    parts = [_comparison(runs)] if len(runs) > 1 else []
    for count, facts in enumerate(runs, start=1):
        prefix = f"run{count}-" if len(runs) > 1 else ""
        if prefix:
            parts.append(f'<h1 id="{prefix}top">{escape(facts.run.path.name)}: {escape(facts.title)}</h1>')
        parts += _sections(facts, prefix)
    with writable(path), atomic_write(path) as temporary:
        temporary.write_text(page(title, _links(runs), parts), encoding="utf-8")
    return path


def _links(runs: Sequence[RunFacts]) -> list[tuple[str, str]]:
    if len(runs) > 1:
        return [(f"run{count}-top", facts.run.path.name) for count, facts in enumerate(runs, start=1)]
    return [(name, name) for name in ("scores", "classes", "mistakes", "training", "data", "recipe")]


def _sections(facts: RunFacts, prefix: str) -> list[str]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return [
            section(f"{prefix}scores", "Scores", _headline(facts), _baselines(facts), _calibration(facts)),
            section(f"{prefix}classes", "Classes", _classes(facts), _confusion(facts, folder)),
            section(f"{prefix}mistakes", "Mistakes", _mistakes(facts)),
            section(f"{prefix}attention", "Where it looked", _attention(facts)),
            section(f"{prefix}training", "Training", _curves(facts, folder)),
            section(f"{prefix}data", "Data", _data(facts)),
            section(f"{prefix}recipe", "Recipe", _reasons(facts), _recipe(facts)),
        ]


def _headline(facts: RunFacts) -> str:
    interval = bootstrap_top1(facts.predicted == facts.truth, facts.groups)
    groups = len(set(facts.groups))
    unit = f"{groups} people or sources" if groups > 1 else "recordings"
    bad = facts.baselines is not None and interval.value < facts.baselines.floor.top1
    return (
        f'<p><span class="big{" bad" if bad else ""}">{interval.value:.1f} %</span> of {len(facts.ids)} recordings '
        f"of the part {facts.split} are classified correctly.</p>"
        + note(f"95 % interval {interval.low:.1f} to {interval.high:.1f}, by resampling {unit} (bootstrap).")
    )


def _baselines(facts: RunFacts) -> str:
    if facts.baselines is None:
        return ""
    top1 = 100 * float((facts.predicted == facts.truth).mean())
    rows = [
        [Cell(row.name), number(row.top1), Cell(row.interval_text), Cell(row.method)] for row in facts.baselines.rows
    ]
    floor = facts.baselines.floor
    own = [Cell("this run"), number(top1, bad=top1 < floor.top1), Cell(""), Cell("")]
    below = top1 < floor.top1
    warning = f'<p class="bad">This run is below the simple method "{escape(floor.name)}".</p>' if below else ""
    return table(("method", "top-1 %", "95 % interval", "what it is"), [*rows, own]) + warning


def _calibration(facts: RunFacts) -> str:
    result = reliability(facts.probabilities, facts.truth)
    rows = [
        [number(confidence), number(accuracy), Cell(str(count), count)]
        for confidence, accuracy, count in zip(result.confidence, result.accuracy, result.counts, strict=True)
    ]
    text = f"Expected calibration error {result.error:.1f} %: how far the probability is from the accuracy, on average."
    if facts.calibration is not None:
        text += f" {str(facts.calibration).capitalize()} (temperature scaling)."
    return note(text) + table(("mean probability %", "accuracy %", "recordings"), rows)


def _classes(facts: RunFacts) -> str:
    matrix = facts.confusion
    rows = []
    for index, label in enumerate(facts.labels):
        tested, found = matrix[index].sum(), matrix[:, index].sum()
        if not tested and not found:
            continue
        others = matrix[index].copy()
        others[index] = 0
        taken = f"{facts.labels[others.argmax()]} ({others.max()})" if others.any() else ""
        recall = number(100 * matrix[index, index] / tested) if tested else Cell("", -1.0)
        precision = number(100 * matrix[index, index] / found) if found else Cell("", -1.0)
        rows.append([Cell(label), Cell(str(tested), int(tested)), recall, precision, Cell(taken)])
    columns = ("class", "recordings", "recall %", "precision %", "most often taken for")
    return table(columns, rows, sortable=True)


def _confusion(facts: RunFacts, folder: Path) -> str:
    draw_confusion(facts.confusion, facts.labels, folder / "confusion.png", title=f"{facts.title}: {facts.split}")
    return picture(folder / "confusion.png", "confusion matrix, true classes in rows, predicted ones in columns")


def _mistakes(facts: RunFacts) -> str:
    wrong = facts.wrong()
    if not wrong:
        return note("None.")
    try:
        records = {record.id: record for record in facts.recipe.data.index(facts.split).records}
    except DataError:
        records = {}
    items = []
    for index in wrong[:_SHOWN]:
        id_, row = facts.ids[index], facts.probabilities[index]
        image = thumbnail(facts.recipe.data, records[id_]) if id_ in records else ""
        answer, truth = facts.labels[int(row.argmax())], facts.labels[int(facts.truth[index])]
        items.append(
            f'<li>{image}<div>{escape(id_)}</div><div><span class="bad">{escape(answer)}</span> {row.max():.0%}</div>'
            f"<div>is {escape(truth)} ({row[facts.truth[index]]:.0%})</div></li>"
        )
    more = note(f"The {_SHOWN} most confident of {len(wrong)}.") if len(wrong) > _SHOWN else ""
    gone = "" if records else note("The recordings are not where they were, so there are no pictures.")
    return f"{more}{gone}<ul class=wrong>{''.join(items)}</ul>"


def _attention(facts: RunFacts) -> str:
    shown = films(facts)
    skeletons = isinstance(facts.recipe.data.holds(), SkeletonData)
    most = "Large discs and high curves are" if skeletons else "Bright is"
    text = f"{most} what counted most for the answer. Of different classes the most confident answers, then a mistake."
    return note(text) + shown if shown else ""


def _curves(facts: RunFacts, folder: Path) -> str:
    try:
        draw_curves(Journal(facts.run.path / "journal.jsonl").rows(), folder / "curves.png", title="Learning curves")
    except RunError:
        return note("There is no journal of a training in the run folder.")
    return picture(folder / "curves.png", "learning curves over the epochs")


def _data(facts: RunFacts) -> str:
    rows = [[Cell(part), Cell(str(count), count)] for part, count in facts.counts.items()]
    excluded = note(f"{facts.excluded} recordings were excluded; excluded.tsv in the run folder lists them.")
    return table(("part", "recordings"), rows) + (excluded if facts.excluded else "")


def _reasons(facts: RunFacts) -> str:
    rows = [[Cell(setting), Cell(reason)] for setting, reason in facts.recipe.reasons.items()]
    return table(("setting that follows from the recordings", "reason"), rows) if rows else ""


def _recipe(facts: RunFacts) -> str:
    """The recipe, a table of TOML a paragraph."""
    tree = {name: value for name, value in dump(facts.recipe).items() if name != "reasons"}
    plain = [f"{name} = {toml_value(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    tables = [
        "\n".join([f"[{name}]", *(f"{key} = {toml_value(item)}" for key, item in value.items())])
        for name, value in tree.items()
        if isinstance(value, dict)
    ]
    return f"<pre>{escape(chr(10).join(plain))}\n\n{escape((2 * chr(10)).join(tables))}</pre>"


def _comparison(runs: Sequence[RunFacts]) -> str:
    rows = []
    for facts in runs:
        interval = bootstrap_top1(facts.predicted == facts.truth, facts.groups)
        error = reliability(facts.probabilities, facts.truth).error
        span = Cell(f"{interval.low:.1f} to {interval.high:.1f}")
        rows.append([Cell(facts.run.path.name), Cell(facts.title), number(interval.value), span, number(error)])
    columns = ("run", "recipe", "top-1 %", "95 % interval", "calibration error %")
    return section("comparison", "Comparison", table(columns, rows, sortable=True), _paired(runs))


def _paired(runs: Sequence[RunFacts]) -> str:
    """McNemar's test of every pair that was tested on the same recordings."""
    rows = []
    for first, second in combinations(runs, 2):
        names = f"{first.run.path.name} and {second.run.path.name}"
        if first.ids != second.ids or not np.array_equal(first.truth, second.truth):
            rows.append([Cell(names), Cell("tested on other recordings"), Cell("", -1.0), Cell("", -1.0)])
            continue
        one, other, p = mcnemar(first.predicted == first.truth, second.predicted == second.truth)
        rows.append(
            [Cell(names), Cell(f"{one} against {other}"), number(p, 4), Cell(str(len(first.ids)), len(first.ids))]
        )
    columns = ("pair", "right in one of them only", "p (McNemar, exact)", "recordings")
    return note("Differences of the runs on the same recordings:") + table(columns, rows)
