"""Late fusion of runs against means worked out by hand, and what cannot be fused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.fuse import Aligned, align, fuse, learn_weights
from muybridge.engine.train import train
from tests.tiny import tiny_recipe, write_recordings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("run")
    folder = train(tiny_recipe(write_recordings(root / "data"), epochs=1), root / "run")
    evaluate(folder)
    return folder


def write_predictions(run: RunFolder, path: Path, rows: list[tuple[str, str, tuple[float, float, float]]]) -> RunFolder:
    """A run with these test predictions."""
    path.mkdir()
    for name in ("run.json", "labels.txt", "recipe.toml"):
        (path / name).write_text((run.path / name).read_text())
    names = ",".join(f'"{name}"' for name in run.labels())
    lines = [f'"{id_}","{true}","",' + ",".join(map(str, (*chances, *[0.0] * 17))) for id_, true, chances in rows]
    (path / "test-predictions.csv").write_text("\n".join([f"id,true,predicted,{names}", *lines]) + "\n")
    return RunFolder.open(path)


def test_one_run_fused_with_itself_is_itself(run: RunFolder):
    assert fuse([run, run]) == replace(evaluate(run), precision="")  # that of several runs may differ


def test_probabilities_are_averaged_with_weights(run: RunFolder, tmp_path: Path):
    first, second, _ = run.labels()[:3]
    sure = write_predictions(run, tmp_path / "sure", [("a", first, (0.9, 0.1, 0)), ("b", first, (0.1, 0.9, 0))])
    torn = write_predictions(run, tmp_path / "torn", [("a", first, (0.4, 0.6, 0)), ("b", first, (0.7, 0.3, 0))])
    assert fuse([sure, torn]).top1 == 50.0  # a: 0.65 of the first class, b: 0.40
    assert fuse([sure, torn], [1, 5]).top1 == 50.0  # a: 0.48, b: 0.60
    assert fuse([sure, torn], [1, 3]).top1 == 100.0  # a: 0.525, b: 0.55
    assert fuse([sure, torn], [0, 1]).per_class[first] == 50.0
    assert fuse([sure, torn], [0, 1]).confusion[0][:2] == [1, 1]
    assert fuse([sure, torn]).per_class[second] is None


def test_predictions_of_another_tool_may_have_any_order(run: RunFolder, tmp_path: Path):
    first, second, *rest = run.labels()
    run_a = write_predictions(run, tmp_path / "one", [("a", first, (0.6, 0.4, 0)), ("b", second, (0.6, 0.4, 0))])
    file = tmp_path / "other.csv"
    header = ",".join(["more", *rest, second, "id", first])
    zeros = ",".join("0" for _ in rest)
    file.write_text(f"{header}\nx,{zeros},0.9,b,0.1\ny,{zeros},1,unasked,0\nz,{zeros},0.1,a,0.9\n")
    assert fuse([run_a]).top1 == 50.0
    assert fuse([run_a, file]).top1 == 100.0
    assert fuse([file, run_a], [1, 9]).top1 == 50.0
    done = CliRunner().invoke(app, ["fuse", str(run_a.path), str(file), "--json"])
    assert json.loads(done.stdout)["top1"] == 100.0
    for text, message in [
        (f"{header}\nx,{zeros},0.9,b,0.1\n", "other.csv: it lacks 'a'"),
        (header.replace("id", "name") + f"\nx,{zeros},0.9,b,0.1\n", "it lacks 'id'"),
        (header.replace(second, "wink") + f"\nx,{zeros},0.9,b,0.1\nx,{zeros},0.9,a,0.1\n", f"it lacks '{second}'"),
        (f"{header}\nx,{zeros},2.5,b,-1\nx,{zeros},0.9,a,0.1\n", "the values of 'b' are not probabilities"),
        (f"{header}\nx,{zeros},0.9,b,often\nx,{zeros},0.9,a,0.1\n", "it cannot be read"),
        (f"{header}\nx,{zeros},nan,b,0.1\nx,{zeros},0.9,a,0.1\n", "the values of 'b' are not probabilities"),
        (
            f"{header}\nx,{zeros},0.9,b,0.1\nx,{zeros},0.9,a,0.1\nx,{zeros},0.1,a,0.9\n",
            "3 rows have only 2 different ids",
        ),
        (f"{header}\nx,{zeros},{'1' * 200_000},b,0.1\n", "it cannot be read"),
        (f"{header}\nx,{zeros},0.9,b\nx,{zeros},0.9,a,0.1\n", "it cannot be read"),
    ]:
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            fuse([run_a, file])
    with pytest.raises(RunError, match=r"no run is among the sources\. Expected at least one run"):
        fuse([file])


def test_the_command_prints_scores(run: RunFolder):
    done = CliRunner().invoke(app, ["fuse", str(run.path), str(run.path), "--weights", "1,2", "--json"])
    assert json.loads(done.stdout)["count"] == evaluate(run).count
    done = CliRunner().invoke(app, ["fuse", str(run.path), "--weights", "one"])
    assert "numbers such as 1,2" in str(done.exception)


def test_runs_that_cannot_be_fused_are_refused(run: RunFolder, tmp_path: Path):
    first = run.labels()[0]
    run_a = write_predictions(run, tmp_path / "one", [("a", first, (1, 0, 0))])
    run_b = write_predictions(run, tmp_path / "other", [("b", first, (1, 0, 0))])
    with pytest.raises(RunError, match=r"other: the run was tested on other recordings: a is .* Expected the 1 of"):
        fuse([run_a, run_b])
    with pytest.raises(RunError, match=r"weights 1\. Expected 2 of them"):
        fuse([run_a, run_a], [1])
    with pytest.raises(RunError, match="not all zero"):
        fuse([run_a, run_a], [0, 0])
    (tmp_path / "other" / "labels.txt").write_text("x\ny\n")
    with pytest.raises(RunError, match=r"its predictions cannot be read"):
        fuse([run_a, RunFolder.open(tmp_path / "other")])
    (tmp_path / "one" / "test-predictions.csv").unlink()
    with pytest.raises(RunError, match=r"one: the run was not tested on test\. .*muybridge test .*one --split test"):
        fuse([run_a])


def test_runs_are_matched_by_the_ids_of_recordings_and_the_names_of_classes(run: RunFolder, tmp_path: Path):
    first, second, *_ = run.labels()
    one = write_predictions(run, tmp_path / "one", [("a", first, (0.6, 0.4, 0)), ("b", second, (0.8, 0.2, 0))])
    turned = write_predictions(run, tmp_path / "turned", [("b", second, (0.1, 0.9, 0)), ("a", first, (0.9, 0.1, 0))])
    names = list(run.labels())
    names[0], names[1] = names[1], names[0]  # a run whose classes have another order
    (tmp_path / "turned" / "labels.txt").write_text("\n".join(names) + "\n")
    lines = (tmp_path / "turned" / "test-predictions.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    swapped = [",".join([*row[:3], row[4], row[3], *row[5:]]) for row in cells]
    (tmp_path / "turned" / "test-predictions.csv").write_text("\n".join(swapped) + "\n")
    aligned = align([one, RunFolder.open(turned.path)])
    assert aligned.ids == ("a", "b")
    assert aligned.probabilities[1][:, :2].tolist() == [pytest.approx([0.9, 0.1]), pytest.approx([0.1, 0.9])]
    assert [scores.top1 for scores in aligned.alone()] == [50.0, 100.0]
    assert aligned.fused().top1 == 100.0

    other = write_predictions(run, tmp_path / "other", [("a", second, (0.6, 0.4, 0)), ("b", second, (0.8, 0.2, 0))])
    with pytest.raises(RunError, match="the recording a is of the class"):
        align([one, other])


def test_learnt_weights_are_the_most_likely_ones():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.integers(0, 3, 200))
    sources = [torch.from_numpy(rng.dirichlet([1, 1, 1], 200)).float() for _ in range(3)]
    sources[1] = 0.5 * sources[1] + 0.5 * torch.nn.functional.one_hot(truth, 3)  # knows something
    aligned = Aligned(tuple(map(str, range(200))), truth, ("x", "y", "z"), sources)
    weights = learn_weights(aligned)
    assert sum(weights) == pytest.approx(1)

    def likelihood(of: list[float]) -> float:
        mean = torch.stack([weight * part for weight, part in zip(of, sources, strict=True)]).sum(0)
        return float(mean[torch.arange(200), truth].log().mean())

    grid = [(i / 20, j / 20, 1 - (i + j) / 20) for i in range(21) for j in range(21 - i)]
    assert likelihood(weights) >= max(likelihood(list(one)) for one in grid) - 1e-6
    assert weights[1] > 0.9


def test_weights_are_learnt_on_validation_and_tested_elsewhere(run: RunFolder, tmp_path: Path):
    first, second, *_ = run.labels()
    good = write_predictions(run, tmp_path / "good", [("a", first, (0.6, 0.4, 0)), ("b", second, (0.4, 0.6, 0))])
    bad = write_predictions(run, tmp_path / "bad", [("a", first, (0.2, 0.8, 0)), ("b", second, (0.8, 0.2, 0))])
    command = ["fuse", str(good.path), str(bad.path), "--json"]
    assert json.loads(CliRunner().invoke(app, command).stdout)["top1"] == 0.0
    done = CliRunner().invoke(app, [*command, "--learn"])
    assert "good: the run was not tested on val" in str(done.exception)
    for one in (good, bad):
        (one.path / "val-predictions.csv").write_text((one.path / "test-predictions.csv").read_text())
    learnt = json.loads(CliRunner().invoke(app, [*command, "--learn"]).stdout)
    assert learnt["top1"] == 100.0
    assert [source["weight"] for source in learnt["sources"]] == [1.0, 0.0]
    shown = CliRunner().invoke(app, [*command[:-1], "--learn"]).stdout
    assert "classes that gain most" not in shown  # the best source alone is as good
    shown = CliRunner().invoke(app, [*command[:-1], "--weights", "1,2"]).stdout
    assert "classes that lose most" in shown
    for wrong in (["--weights", "1,2"], ["--split", "val"]):
        assert "--learn with" in str(CliRunner().invoke(app, [*command, "--learn", *wrong]).exception)
