"""Many files: computed together, read ahead, and written into a file that grows."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.cli.answers import AnswerFile
from muybridge.core.contracts import ClipInput, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.types import FailedSample, Prediction
from muybridge.data.prepare import collate_inputs
from muybridge.engine.forward import forward_in_parts, rows_at_once
from muybridge.engine.train import train
from muybridge.models.base import Model
from muybridge.predict import Predictor
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_clip_recipe(videos, epochs=1), tmp_path_factory.mktemp("runs") / "videos").path


def same(answer: Prediction | FailedSample, expected: Prediction) -> None:
    assert isinstance(answer, Prediction)
    assert answer.id == expected.id
    assert answer.labels == expected.labels
    np.testing.assert_allclose(answer.scores, expected.scores, atol=2e-6)


@pytest.mark.parametrize(("batch", "jobs"), [(1, 1), (3, 2), (50, 4)])
def test_together_they_get_the_answers_of_each(run: Path, videos: Path, batch: int, jobs: int) -> None:
    predictor = Predictor(run)
    paths = sorted(videos.rglob("*.mp4"))
    alone = [predictor(path) for path in paths]
    for answers in (list(predictor.predict_files([videos], batch=batch, jobs=jobs)), predictor.batch(paths)):
        assert len(answers) == len(paths)
        for answer, expected in zip(answers, alone, strict=True):
            same(answer, expected)


def test_large_clips_are_computed_apart_with_the_same_answers(run: Path, videos: Path) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert rows_at_once(ClipInput(8, 5, 224), cpu) == 1
    assert rows_at_once(ClipInput(8, 1, 512), cpu) == 1
    assert rows_at_once(ClipInput(8, 1, 112), cpu) == 5
    assert rows_at_once(ClipInput(8, 1, 224), gpu) > 1000
    assert rows_at_once(SkeletonInput(), cpu) > 1000
    predictor = Predictor(run)
    assert isinstance(predictor.model, Model)
    predictor.model.return_maps = True
    inputs = collate_inputs([predictor.prepare(predictor.read(path))[0] for path in sorted(videos.rglob("*.mp4"))[:3]])
    with torch.inference_mode():
        whole, parts = predictor.model(**inputs), forward_in_parts(predictor.model, inputs, 2)
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.maps, whole.maps)
    assert whole.maps


def test_skeletons_of_different_lengths(tmp_path: Path) -> None:
    data = write_recordings(tmp_path / "data")
    predictor = Predictor(train(tiny_recipe(data, epochs=1), tmp_path / "run").path)
    paths = sorted(data.iterdir())[:5]
    assert len({len(predictor.read(path)) for path in paths}) > 1
    for answer, path in zip(predictor.batch(paths), paths, strict=True):
        same(answer, predictor(path))


def test_broken_files_keep_their_place(run: Path, videos: Path, tmp_path: Path) -> None:
    good = sorted(videos.rglob("*.mp4"))
    (tmp_path / "broken.mp4").write_text("no video")
    paths = [good[0], tmp_path / "broken.mp4", tmp_path / "missing.mp4", good[1]]
    answers = list(Predictor(run).predict_files(paths, batch=2, jobs=2))
    assert [type(answer) for answer in answers] == [Prediction, FailedSample, FailedSample, Prediction]
    assert [answer.id for answer in answers] == list(map(str, paths))


def test_nothing_is_asked_of_nothing(run: Path) -> None:
    assert Predictor(run).batch([]) == []
    with pytest.raises(ValueError, match="top is 0"):
        Predictor(run).batch([], top=0)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_is_continued(run: Path, videos: Path, tmp_path: Path, kind: str) -> None:
    out, runner = tmp_path / f"answers.{kind}", CliRunner()
    words = ["predict", str(run), str(videos), f"--{kind}", str(out), "--top", "2", "--batch", "3"]
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "16 recordings asked" in result.stderr
    whole = out.read_text()
    rows = list(csv.DictReader(whole.splitlines())) if kind == "csv" else [*map(json.loads, whole.splitlines())]
    assert {row["path"] for row in rows} == {str(path) for path in videos.rglob("*.mp4")}
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:6]) + lines[6][:7])  # killed while it wrote
    result = runner.invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "were there already" in result.stderr
    assert out.read_text() == whole
    assert "0 recordings asked, 16 were there already" in runner.invoke(app, words).stderr


def test_a_file_of_something_else_is_refused(run: Path, videos: Path, tmp_path: Path) -> None:
    out, runner = tmp_path / "answers.csv", CliRunner()
    out.write_text("name,age\nAnna,7\n")
    result = runner.invoke(app, ["predict", str(run), str(videos), "--csv", str(out)])
    assert isinstance(result.exception, DataError)
    assert "its columns are name,age" in str(result.exception)
    assert out.read_text() == "name,age\nAnna,7\n"
    result = runner.invoke(app, ["predict", str(run), str(videos), "--jsonl", str(out)])
    assert "holds something else" in str(result.exception)
    both = runner.invoke(app, ["predict", str(run), str(videos), "--csv", str(out), "--jsonl", str(out)])
    assert "one of them" in str(both.exception)


def answer(name: str) -> Prediction:
    return Prediction(name, ("a", "b"), (0.75, 0.25), {})


@pytest.mark.parametrize("as_csv", [True, False])
def test_any_file_name_and_any_cut_are_continued(tmp_path: Path, as_csv: bool) -> None:
    names = ["a,b", 'a "b"\n,"c"\nd', "a\rb", "a\u2028b\x85c", os.fsdecode(b"\xff"), "\xfc"]
    whole = tmp_path / "whole"
    with AnswerFile(whole, as_csv, 2, 2) as file:
        for name in names:
            file.add(answer(name))
    content = whole.read_bytes()
    for length in range(len(content) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:length])
        with AnswerFile(cut, as_csv, 2, 2) as file:
            for name in names:
                if not file.has(Path(name)):
                    file.add(answer(name))
        assert cut.read_bytes() == content
    with pytest.raises(DataError, match="the --top of then"), AnswerFile(whole, as_csv, 1, 2):
        pass
    if not as_csv:
        with AnswerFile(whole, as_csv, 5, 2):  # of two classes, the best five are both
            pass
        assert [json.loads(line)["path"] for line in content.decode().split("\n")[:-1]] == names


@pytest.mark.parametrize("as_csv", [True, False])
@pytest.mark.parametrize("text", ["one line of notes", "path\tlabel"])
def test_a_file_of_one_unfinished_line_of_something_else_is_kept(tmp_path: Path, text: str, as_csv: bool) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(DataError, match="not of this kind"), AnswerFile(path, as_csv, 2, 2):
        pass
    assert path.read_text() == text


def test_broken_files_are_listed_and_asked_again(run: Path, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    out, good = tmp_path / "answers.csv", min(videos.rglob("*.mp4"))
    words = ["predict", str(run), str(tmp_path / "broken.mp4"), str(good), "--csv", str(out)]
    for _ in range(2):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "broken.mp4" in result.stderr
        assert [row["path"] for row in csv.DictReader(out.read_text().splitlines())] == [str(good)]
