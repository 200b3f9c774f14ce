"""What is reported while people wait."""

import io
from itertools import pairwise

import pytest
from rich.console import Console

from muybridge.engine import journal
from muybridge.engine.journal import Reporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only where a test says so."""
    now = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    return now


def reporter(terminal: bool = False) -> tuple[Reporter, io.StringIO]:
    report, output = Reporter(), io.StringIO()
    report.console = Console(file=output, force_terminal=terminal, width=100, highlight=False)
    return report, output


def row(epoch: int, seconds: float, **parts: dict[str, float]) -> dict:
    return {"stage": "all", "epoch": epoch, "seconds": seconds, "train": {"loss": 1.25, "top1": 50.0}, **parts}


def test_a_log_says_now_and_then_how_much_time_is_left(clock: list[float]):
    report, output = reporter()
    with report:
        report.begin("training", 120, done=20)
        for _ in range(100):
            clock[0] += 1
            report.step()
    lines = output.getvalue().splitlines()
    assert lines[0] == "training: 25 of 120, 1:35 left"  # 5 steps in 5 seconds, and 95 to do
    assert lines[1] == "training: 30 of 120, 1:30 left"
    assert lines[-1] == "training: 117 of 120, 0:03 left"
    assert len(lines) == 16  # 5 seconds apart, and after a minute a tenth of the time so far


def test_long_tasks_have_a_line_a_minute(clock: list[float]):
    report, output = reporter()
    report.begin("training", 7200)
    for _ in range(7200):
        clock[0] += 1
        report.step()
    lines = output.getvalue().splitlines()
    done = [int(line.split()[1]) for line in lines]
    apart = [after - before for before, after in pairwise(done)]
    assert apart[0] == 5
    assert sorted(apart) == apart
    assert apart[-1] == 60
    assert next(line for line in lines if int(line.split()[1]) > 3000).endswith("3059 of 7200, 1:09:01 left")


def test_a_task_may_count_by_itself(clock: list[float]):
    report, output = reporter()
    report.begin("generating videos")
    for done in range(41, 50):  # 40 were there before
        clock[0] += 2
        report.update(done, 50)
    assert output.getvalue().splitlines() == [
        "generating videos: 43 of 50, 0:14 left",
        "generating videos: 46 of 50, 0:08 left",
        "generating videos: 49 of 50, 0:02 left",
    ]


def test_epochs_are_told_with_what_they_were_measured_on(clock: list[float]):
    report, output = reporter()
    report.begin("training", 30)
    for epoch in (1, 2, 3):
        for _ in range(10):
            clock[0] += 0.1
            report.step()
        report.epoch(row(epoch, epoch, val={"loss": 2.0, "top1": 40.0}), 3)
    first, last = output.getvalue().splitlines()  # the second comes too soon for a log
    figures = "training loss 1.250, top-1 50.0 %  validation loss 2.000, top-1 40.0 %"
    assert first == f"all epoch 1/3  {figures}  1 s, 0:02 left"
    assert last == f"all epoch 3/3  {figures}  3 s"


def test_a_terminal_has_every_epoch_and_no_lines_between(clock: list[float]):
    report, output = reporter(terminal=True)
    report.begin("training", 30)
    for epoch in (1, 2, 3):
        for _ in range(10):
            clock[0] += 60
            report.step()
        report.epoch(row(epoch, epoch), 3)
    assert [line.split("  ")[0] for line in output.getvalue().splitlines()] == [f"all epoch {n}/3" for n in (1, 2, 3)]


def test_the_bar_shows_the_time_left(clock: list[float]):
    report, _ = reporter()
    report.begin("training", 10)
    for _ in range(5):
        clock[0] += 7
        report.step()
    shown = Console(file=io.StringIO(), width=120)
    shown.print(report._bar.get_renderable())
    line = shown.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "training" in line
    assert "5/10" in line
    assert line.rstrip().endswith("left")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (605, "10:05"), (3725, "1:02:05")])
def test_time_is_hours_minutes_and_seconds(seconds: float, text: str):
    assert journal._clock(seconds) == text


def test_a_reporter_may_be_opened_within_itself():
    report, _ = reporter()
    with report:
        with report:
            report.begin("testing", 2)
        report.step()
    report.step()
