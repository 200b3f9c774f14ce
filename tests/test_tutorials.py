"""The tutorials and the tour: their shell commands and Python blocks, run in the order of the page on tiny data.

Each ``train`` and ``repeat`` gets options that make networks and trainings small; all else is run as written.
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from muybridge.cli import main
from tests.tiny import write_videos

DOCS = Path(__file__).parents[1] / "docs"
CLIPS = (
    "--no-pretrained --epochs 1 --size 32 --set model.segments=2 "
    "--set model.backbone=resnet10 --set model.stages=2 --set model.width=8"
)
SMALL = {
    "tdn": CLIPS,
    "auto": "--no-pretrained --epochs 1 --size 32 --minutes 0.2",
    "my_recipe.toml": CLIPS,
    "drnn": "--epochs 2 --set model.hidden=8",
    "sta_lstm_sbu": "--set train.epochs=1 --set model.hidden=4",
}
"""Options for a training, by its model or recipe; loading in the same process starts faster."""
IN_PROCESS = "--set train.num_workers=0"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the tutorials start from, in which their runs accumulate."""
    folder = tmp_path_factory.mktemp("tutorials")
    write_videos(folder / "videos", takes=1)
    shutil.copy(next((folder / "videos").rglob("*.mp4")), folder / "new_video.mp4")
    write_sbu(folder / "data" / "sbu")
    return folder


def write_sbu(root: Path) -> None:
    """Random recordings of three frames of two pairs of people per fold, in the format of SBU."""
    rng = np.random.default_rng(0)
    for pair in ("s01s02", "s03s04", "s02s03", "s02s07", "s01s03", "s01s07", "s02s01", "s02s06", "s04s02", "s04s03"):
        for action in range(1, 9):
            folder = root / pair / f"{action:02}" / "001"
            folder.mkdir(parents=True)
            rows = np.column_stack([np.arange(1, 4), rng.random((3, 90))])
            np.savetxt(folder / "skeleton_pos.txt", rows, fmt="%.4f", delimiter=",")


def run_page(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Runs the blocks of a page; returns the variables of its Python blocks."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MUYBRIDGE_DATA", str(workspace / "data"))
    text = (DOCS / page).read_text(encoding="utf-8")
    variables: dict[str, object] = {"__name__": "__main__"}
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for language, code in blocks:
        if language == "python":
            exec(compile(code, page, "exec"), variables)
        else:
            for line in filter(None, code.splitlines()):
                run_command(line, monkeypatch)
    return variables


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "muybridge"
    if arguments[0] in ("train", "repeat") and "--resume" not in arguments:
        options = next(options for name, options in SMALL.items() if name in arguments)
        arguments += f"{options} {IN_PROCESS}".split()
    monkeypatch.setattr("sys.argv", [program, *arguments])
    try:
        main()
    except SystemExit as exit_:
        assert not exit_.code, line  # noqa: PT017 - a command that succeeds may exit too


def test_your_own_videos(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run_page("tutorials/own-videos.md", workspace, monkeypatch)
    assert (workspace / "runs" / "videos" / "test-predictions.csv").is_file()
    assert list((workspace / "runs" / "videos" / "pictures").iterdir())
    assert "new_video.mp4" in capsys.readouterr().out


def test_your_own_skeletons(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    run_page("tutorials/own-skeletons.md", workspace, monkeypatch)
    assert len(list((workspace / "recordings").rglob("*.npz"))) == 16
    assert list((workspace / "runs" / "skeletons" / "pictures").iterdir())


def test_predict_and_localize_in_python(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    """Needs the runs of the two tutorials above."""
    variables = run_page("tutorials/python.md", workspace, monkeypatch)
    assert variables["prediction"].labels[0] in ("dawn", "dusk")  # pyright: ignore[reportAttributeAccessIssue]
    assert len(variables["localization"].tubes) == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_a_benchmark_of_the_papers(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    run_page("tutorials/benchmark.md", workspace, monkeypatch)
    assert len(list((workspace / "runs" / "sbu-repeat").rglob("weights.safetensors"))) == 4


def test_with_scikit_learn(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    variables = run_page("sklearn.md", workspace, monkeypatch)
    assert variables["recogniser"].score(variables["X"], variables["y"]) == 1  # pyright: ignore[reportAttributeAccessIssue]


def test_add_a_model(monkeypatch: pytest.MonkeyPatch):
    """The example's two modules, put where the page says they belong."""
    import sys
    from types import ModuleType

    import torch

    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "add-a-model.md").read_text(), re.DOTALL | re.MULTILINE)
    for name, code in zip(("muybridge.models.mean_pose", "muybridge.models.mean_pose.network"), blocks, strict=True):
        module = ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, name, "exec"), module.__dict__)
    model = sys.modules["muybridge.models.mean_pose"].MeanPoseConfig().build(num_classes=5)
    joints = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 6, 1, 20, 3)).astype(np.float32))
    scores = model(joints=joints, length=torch.tensor([6, 4])).logits
    joints[1, 4:] = 100
    assert scores.shape == (2, 5)
    torch.testing.assert_close(model(joints=joints, length=torch.tensor([6, 4])).logits, scores)
