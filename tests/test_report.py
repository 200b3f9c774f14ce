"""The page of a run: what it says, and that it needs nothing else."""

import base64
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.engine.calibration import reliability
from muybridge.engine.train import train
from muybridge.viz.report import collect, write_report
from muybridge.viz.report.films import chosen, films
from muybridge.viz.report.html import Cell, table
from muybridge.viz.report.statistics import bootstrap_top1, mcnemar
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on the same skeletons."""
    root = tmp_path_factory.mktemp("report")
    data = write_recordings(root / "data")
    return [train(tiny_recipe(data, epochs=2, seed=seed), root / f"run{seed}").path for seed in (0, 1)]


def test_the_interval_resamples_people() -> None:
    right = np.array([True] * 50 + [False] * 50)
    by_person = bootstrap_top1(right, ["a"] * 50 + ["b"] * 50)
    alone = bootstrap_top1(right, [""] * 100)
    assert (by_person.value, by_person.low, by_person.high) == (50, 0, 100)
    assert 38 < alone.low < 43
    assert 57 < alone.high < 62


def test_calibration_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [1.0, 0.0]])
    result = reliability(probabilities, np.array([0, 1, 1, 0]))
    assert result.counts == (1, 3)  # 0.65, and 0.9, 0.9 and 1.0
    np.testing.assert_allclose(result.confidence, [65, 280 / 3])
    np.testing.assert_allclose(result.accuracy, [100, 200 / 3])
    assert result.error == pytest.approx((35 * 1 + 80 / 3 * 3) / 4)


def test_the_paired_test_counts_differences() -> None:
    first, second = np.array([1, 1, 1, 1, 1, 1, 0, 0], bool), np.array([0, 0, 0, 0, 0, 0, 0, 1], bool)
    one, other, p = mcnemar(first, second)
    assert (one, other) == (6, 1)
    assert p == pytest.approx(2 * (1 + 7) / 2**7)
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_text_is_escaped() -> None:
    assert "<b>" not in table(("<b>",), [[Cell("<b>&")]], sortable=True)


def test_a_run_becomes_a_page_that_needs_nothing_else(runs: list[Path], tmp_path: Path) -> None:
    facts = collect(runs[0])
    text = write_report([facts], tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * (facts.predicted == facts.truth).mean():.1f} %" in text
    for name in ("scores", "classes", "mistakes", "training", "data", "recipe"):
        assert f'<section id="{name}">' in text
    assert text.count("data:image/png;base64,") == 2
    assert all(link.startswith(("data:", "#")) for link in re.findall(r'(?:src|href)="([^"]*)', text))
    assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("http://www.w3.org", "")
    assert text.count("<svg") == min(len(facts.wrong()), 48)
    assert int(facts.confusion.sum()) == len(facts.ids)


def test_several_runs_are_compared(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    result = CliRunner().invoke(app, ["report", *map(str, runs), "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text(encoding="utf-8")
    first, second = map(collect, runs)
    one, other, p = mcnemar(first.predicted == first.truth, second.predicted == second.truth)
    assert f"{one} against {other}" in text
    assert f"{p:.4f}" in text
    assert 'id="run2-scores"' in text


def test_videos_have_thumbnails_and_gone_ones_are_said(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos")
    run = train(tiny_clip_recipe(videos, epochs=1), tmp_path / "run").path
    facts = collect(run)
    text = write_report([facts], tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == len(facts.wrong()) > 0
    videos.rename(tmp_path / "elsewhere")
    text = write_report([collect(run)], tmp_path / "b.html").read_text(encoding="utf-8")
    assert "there are no pictures" in text
    assert text.count("data:image/jpeg") == 0


def frames_of(text: str) -> list[int]:
    """How many frames each film in a page has."""
    found = re.findall(r'src="data:image/webp;base64,([^"]*)', text)
    return [getattr(Image.open(io.BytesIO(base64.b64decode(data))), "n_frames", 1) for data in found]


def test_films_show_what_the_model_looked_at(runs: list[Path], tmp_path: Path) -> None:
    facts = collect(runs[0])
    indices = chosen(facts)
    right = [index for index in indices if facts.predicted[index] == facts.truth[index]]
    assert len({int(facts.truth[index]) for index in right}) == len(right) <= 3
    assert len(indices) - len(right) == min(1, len(facts.wrong()))
    text = films(facts)
    assert len(frames_of(text)) == len(indices)
    assert min(frames_of(text)) > 5
    assert len(text) < 1_000_000
    videos = write_videos(tmp_path / "videos")
    clips = collect(train(tiny_clip_recipe(videos, epochs=1), tmp_path / "run").path)
    assert frames_of(films(clips)) == [12] * len(chosen(clips))
    page = write_report([clips], tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="attention">' in page
    videos.rename(tmp_path / "elsewhere")
    assert films(collect(tmp_path / "run")) == ""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_click_on_a_heading_sorts_in_a_browser(runs: list[Path], tmp_path: Path) -> None:
    page = write_report([collect(runs[0])], tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    click = "<script>const b = document.querySelectorAll('#classes th button')[2]; b.click(); {}</script></body>"
    orders = []
    for second in ("", "b.click();"):
        page.write_text(text.replace("</body>", click.format(second)), encoding="utf-8")
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
        dom = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
        classes = dom[dom.index('id="classes"') : dom.index('id="mistakes"')]
        values = re.findall(r'<tr><td>.*?</td><td.*?</td><td class="number" data-value="([^"]*)"', classes)
        orders.append([float(value) for value in values])
        assert ('aria-sort="descending"' if second else 'aria-sort="ascending"') in classes
    assert len(orders[0]) > 2
    assert orders[0] == sorted(orders[0])
    assert orders[1] == sorted(orders[0], reverse=True)
