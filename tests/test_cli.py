"""The command line as a user meets it."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import muybridge
from muybridge import cli, recipe
from muybridge.cli.tables import print_scores, rounded
from muybridge.core.skeletons import LAYOUTS
from muybridge.engine.metrics import score
from muybridge.engine.repeat import summarize_rows
from muybridge.models import STALSTMConfig
from muybridge.recipe_schema import shipped_recipes
from tests.tiny import write_recordings
from tests.videos import write

COMMANDS = (
    *("train", "test", "predict", "repeat", "show", "models", "recipes", "init", "demo", "bench", "convert", "flow"),
    "baseline",
    "features",
    "localize",
    "export",
    "fuse",
    "layouts",
    "pack",
    "prepare",
    "trajectories",
)
PAPERS = Path(__file__).parents[1] / "docs" / "papers"
RECIPE = shipped_recipes()["sta_lstm_sbu"].read_text()
QUICK = ("--set", "train.epochs=2", "--set", "model.hidden=8", "--set", "model.layers=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mine")
    for action in ("up", "down"):
        write_recordings(root / action)
    return root


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command line in an empty folder; gives exit status, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["muybridge", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


HEAVY = {"torch", "numpy", "pydantic", "matplotlib", "lightning_fabric", "scipy", "av"}
LIGHT = [
    (0, "--help"),
    *((0, f"{command} --help") for command in COMMANDS),
    (0, "init mine.toml --model tdn --data videos --epochs 3"),
    (0, "--version"),
    (0, "--show-completion bash"),
    (0, "models"),
    (0, "models tdn"),
    (2, "models tdm"),
    (0, "recipes"),
    (0, "recipes sta_lstm"),
    (0, "recipes folder_drnn"),
    (2, "recipes nothing_like_it"),
    (0, "layouts"),
    (0, "layouts kinect25 --json"),
    (2, "layouts kinct25"),
    (2, "train"),
    (2, "train sta_lstm_stick_figure"),
    (2, "train sta_lstm_stick_figures --set epochs=3"),
    (2, "train --model sta_lstm --data x --size 64"),
    (2, "train --model lstm --data x"),
    (2, "repeat sta_lstm_stick_figures --seeds a"),
    (2, "bench tdn_moving_shapes --set train.batch_size=0"),
    (2, "features tdn_moving_shapes --set model.hiden=3"),
    (2, "flow video_lstm_ucf101 --set flow.metod=dis"),
    (2, "convert x.pth --run y --model tdn --set model.segmnts=8"),
    (2, "fuse a b --weights one"),
    (2, "prepare something_v3"),
    (2, "prepare kth --out x"),
    (2, "prepare kth --set data.protocl=random"),
    (2, "test nowhere"),
    (2, "test ~no-such-user/run"),
    (2, "init ~no-such-user/recipe.toml"),
]


def test_help_lists_and_mistakes_need_no_torch(tmp_path: Path):
    """Each of these in one process, which in the end has imported nothing that takes seconds."""
    code = (
        "import sys; from muybridge.cli import main\n"
        f"for status, line in {LIGHT!r}:\n"
        "    sys.argv = ['muybridge', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert (ended.code or 0) == status, (line, ended.code)\n"
        f"    heavy = {HEAVY!r} & set(sys.modules) - (set() if line == '--help' else {{'pydantic'}})  # typer's own\n"
        "    assert not heavy, (line, heavy)\n"
    )
    # Typer asks which shell called, and a continuous integration may be called by one it does not know.
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str):
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "<bool>" not in result.stdout  # a flag takes no value
    if command != "demo":
        assert "Example:" in result.stdout


def test_commands_are_in_groups():
    text = CliRunner().invoke(cli.app, ["--help"]).stdout
    places = [text.index(f" {group} ─") for group in ("Start", "Data", "Train", "Use", "Look")]
    assert places == sorted(places)
    assert places[2] < text.index("│ train ") < places[3] < text.index("│ predict ") < places[4]


def test_version(call):
    assert call("--version") == (0, f"muybridge {muybridge.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("muybridge trai", ["train"]),
        ("muybridge train sta_lstm_sb", ["sta_lstm_sbu", "sta_lstm_sbu_paper"]),
        ("muybridge train --model t", ["tdn", "tsm", "tsn"]),
        ("muybridge predict --dev", ["--device"]),
    ],
)
def test_completion(call, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]):
    monkeypatch.setenv("_MUYBRIDGE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    _, out, _ = call()
    assert out.split() == expected


def test_the_home_folder_in_paths(call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    code, _, err = call(
        "init", "~/mine.toml", "--model", "drnn", "--data", "~/data", "--group", "(s.)", "--epochs", "7"
    )
    assert code == 0, err
    tree = tomllib.loads((tmp_path / "home" / "mine.toml").read_text())
    assert (tree["data"]["root"], tree["data"]["group"]) == (str(tmp_path / "home" / "data"), "(s.)")
    assert tree["train"]["epochs"] == 7
    assert not (tmp_path / "~").exists()


def test_the_next_command_can_be_copied_into_a_shell(call):
    code, out, _ = call("init", "my recipe.toml", "--model", "drnn")
    assert code == 0
    assert out == "wrote my recipe.toml; next: muybridge train 'my recipe.toml'\n"


def test_recipes(call):
    code, out, _ = call("recipes")
    assert code == 0
    assert len(out.splitlines()) == len(shipped_recipes()) + 3  # a heading, one line each, and what to do next
    row = next(line for line in out.splitlines() if line.startswith("sta_lstm_sbu "))
    assert row.split() == ["sta_lstm_sbu", *tomllib.loads(RECIPE)["title"].split(), "94", "2"]
    assert call("recipes", "sta_lstm_sbu")[1] == RECIPE
    assert [line.split()[0] for line in call("recipes", "sbu")[1].splitlines()[1:3]] == [
        "sta_lstm_sbu",
        "sta_lstm_sbu_paper",
    ]


def test_layouts(call):
    code, out, _ = call("layouts")
    assert code == 0
    for layout in LAYOUTS.values():
        assert f"{layout.name}: {layout.source}\n" in out
    assert " 0:hip 1:spine 2:neck 3:head 4:left_shoulder " in out
    code, out, _ = call("layouts", "coco17", "--json")
    (layout,) = json.loads(out)
    assert layout["joints"][5:7] == ["left_shoulder", "right_shoulder"]
    assert [5, 6] in layout["mirror"]
    code, out, _ = call("layouts", "coco17")
    assert [line.split() for line in out.splitlines()[7:9]] == [
        ["5", "left_shoulder", "nose", "right_shoulder"],
        ["6", "right_shoulder", "nose", "left_shoulder"],
    ]


def test_from_a_folder_to_a_named_action(call, data: Path, tmp_path: Path):
    code, _, err = call("train", "--model", "sta_lstm", "--data", str(data), "--group", r"_(s\d+)_", *QUICK)
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    assert f"next: muybridge test runs/{run.name}" in err
    assert "96 recordings in 2 classes of 4 groups" in err

    code, out, err = call("test", str(run), "--json")
    assert code == 0, err
    result = json.loads(out)
    scores = {"top1", "top5", "mean_class_accuracy", "count", "excluded", "per_class", "precision"}
    assert result.keys() == scores | {"baseline"}  # of one's own recordings
    assert 0 <= result["top1"] <= 100
    assert result["count"] == 24  # one of four people tests, of two classes with twelve recordings each
    assert result["per_class"].keys() == {"up", "down"}

    code, out, err = call("predict", str(run), str(data / "up"), "--json", "--top", "1")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len({row["path"] for row in rows}) == len(rows) == 48
    assert all(row.keys() == {"path", "label", "score", "top"} for row in rows)
    assert all(row["top"] == [{"label": row["label"], "score": row["score"]}] for row in rows)
    assert {row["label"] for row in rows} <= {"up", "down"}
    assert all(row["score"] == round(row["score"], 6) and 0.5 <= row["score"] <= 1 for row in rows)

    code, out, err = call("show", str(run))
    assert code == 0, err
    assert all(Path(line).stat().st_size > 1000 for line in out.split())
    assert len(out.split()) == 5


def test_a_dry_run_reports_and_trains_nothing(call, data: Path, tmp_path: Path):
    words = ("train", "--model", "sta_lstm", "--data", str(data), "--group", r"_(s\d+)_", "--epochs", "3", "--dry-run")
    code, out, err = call(*words)
    assert (code, out) == (0, "")
    assert "96 recordings in 2 classes of 4 groups" in err
    rows = [line.split() for line in err.splitlines()]
    assert ["up", "24", "12", "12"] in rows  # twelve recordings of each person; one validates and one tests
    assert "input: at most 100 frames, 1 person, 20 joints (plain20), 3 coordinates" in err
    assert "training: 3 epochs of 2 steps, batches of 32, adamw with learning rate 0.005" in err
    assert "plausibility: " in err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_stages_and_of_videos(call, tmp_path: Path):
    code, _, err = call("train", "sta_lstm_sbu_paper", "--epochs", "3", "--dry-run")
    assert code == 2
    assert "train.epochs has no effect on a training in stages" in err
    for name in ("a", "b"):
        for take in range(4):
            (tmp_path / "videos" / name).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "videos" / name / f"{take}.mp4", frames=20 + 2 * take + (name == "b"))
    words = ("train", "--model", "tdn", "--data", "videos", "--size", "64", "--no-pretrained", "--dry-run")
    code, _, err = call(*words)
    assert code == 0, err
    assert "input: images, 8 x 5 frames of 64 x 64 pixels (segments x consecutive frames)" in err
    assert "11.51 million parameters\n" in err  # and no pretrained weights
    (tmp_path / "videos" / "a" / "0.mp4").write_bytes(b"")
    (tmp_path / "videos" / "b" / "1.mp4").write_text("no video")
    code, _, err = call(*words)
    assert code == 2
    assert "2 of 8 recordings failed:" in err
    assert "a/0.mp4: " in err
    assert "b/1.mp4: " in err


def test_scores_on_a_terminal_and_as_json(capsys: pytest.CaptureFixture[str]):
    probabilities = torch.tensor([[0.7, 0.3], [0.6, 0.4], [0.4, 0.6]])
    scores = score(probabilities, torch.tensor([0, 1, 1]), ("[red]turn", "walk"), excluded=1)
    print_scores(scores, as_json=False)
    out = capsys.readouterr().out
    assert "top-1 66.67 %" in out
    assert "│ [red]turn │   100.0 │" in out  # a name is no markup
    assert "mean class accuracy 75.00 %, 3 recordings tested, 1 recording excluded" in out
    assert "top-5" not in out  # of two classes
    print_scores(scores, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "top1": 66.67,
        "top5": 100.0,
        "mean_class_accuracy": 75.0,
        "count": 3,
        "excluded": 1,
        "per_class": {"[red]turn": 100.0, "walk": 50.0},
    }


def test_numbers_in_json_are_rounded():
    tree = {"a": 65.00000059604645, "b": [0.1234567, "x", None, True, 3], "c": ({"d": 1e-9},)}
    assert rounded(tree) == {"a": 65.0, "b": [0.12, "x", None, True, 3], "c": [{"d": 0.0}]}
    assert rounded(0.1234567, digits=4) == 0.1235


@pytest.mark.slow
def test_repeat_over_seeds_and_folds(call, data: Path, tmp_path: Path):
    """Runs that are there are kept, and those that are missing give the same in parallel as in turn."""
    code, _, err = call("init", "mine.toml", "--model", "sta_lstm", "--data", str(data))
    assert code == 0, err
    words = ("repeat", "mine.toml", "--folds", "s01,s02", "--set", r"data.group=_(s\d+)_", *QUICK, "--json")
    code, alone, err = call(*words, "--seeds", "1", "--run", "alone")
    assert code == 0, err
    shutil.copytree("alone/seed1-folds01", "runs/mine-repeat/seed1-folds01")
    kept = tmp_path / "runs" / "mine-repeat" / "seed1-folds01" / "weights.safetensors"
    before = kept.stat().st_mtime_ns
    code, out, err = call(*words, "--seeds", "0,1", "--jobs", "2")
    assert code == 0, err
    assert kept.stat().st_mtime_ns == before
    result = json.loads(out)
    assert [(row["seed"], row["fold"]) for row in result["runs"]] == [(0, "s01"), (0, "s02"), (1, "s01"), (1, "s02")]
    assert result["runs"][2:] == json.loads(alone)["runs"]
    by_hand = [row["top1"] for row in result["runs"]]
    means = [(by_hand[0] + by_hand[1]) / 2, (by_hand[2] + by_hand[3]) / 2]
    assert list(result["by_seed"].values()) == pytest.approx(means, abs=0.0101)  # of figures with two decimals
    assert result["mean"] == pytest.approx(sum(means) / 2, abs=0.0101)
    assert by_hand == [round(figure, 2) for figure in by_hand]
    assert result["superclass"] is None
    code, again, err = call(*words, "--seeds", "0,1")
    assert code == 0, err
    assert json.loads(again) == result


def test_superclasses_are_summarized_like_classes():
    rows = [
        {"seed": seed, "fold": fold, "top1": 0.0, "superclass": broader}
        for seed, fold, broader in [(0, "a", 80.0), (0, "b", 90.0), (1, "a", 91.0), (1, "b", 95.0)]
    ]
    result = summarize_rows(rows)
    assert (result.mean, result.deviation) == (0.0, 0.0)
    assert result.superclass == pytest.approx((89.0, 32**0.5))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "no run is given"),
        (("run", "--replicas", "2"), "options of a cluster without --ray"),
        (("run", "--stop", "--address", "ray://host:1"), "--stop. Expected --address of a cluster, and no run"),
        (("--ray", "--stop"), "--stop. Expected --address of a cluster, and no run"),
    ],
)
def test_options_of_a_cluster_that_would_be_ignored_are_refused(call, words: tuple[str, ...], problem: str):
    code, _, err = call("serve", *words)
    assert code == 2
    assert problem in err


def test_models(call):
    code, out, _ = call("models")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()[1:] if line}
    assert {"drnn", "fisher_vectors", "selfy", "sta_lstm", "tdn", "tsm", "tsn", "video_lstm"} < rows.keys()
    assert rows["drnn"].split()[1] == "skeletons"
    assert rows["drnn"].endswith("ICCV 2015")
    assert rows["video_lstm"].split()[1:4] == ["video", "+", "flow"]
    assert rows["tsm"].endswith("TSM: tsn with shift = true")
    code, out, _ = call("models", "sta_lstm")
    for name, reason in STALSTMConfig.spec.differences.items():
        assert f"{name}:" in out
        assert reason in out
    assert STALSTMConfig.spec.link in out
    code, out, _ = call("models", "--json")
    assert {row["name"] for row in json.loads(out)} == {name for name in rows if (PAPERS / f"{name}.md").is_file()}
    assert json.loads(call("models", "tdn", "--json")[1])["input"] == "video"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train",), "no recipe given"),
        (("train", "sta_lstm_stick_figures", "--model", "drnn"), "both a recipe and --model"),
        (("train", "sta_lstm_stick_figure"), "Did you mean sta_lstm_stick_figures"),
        (("train", "--model", "sta_lstm", "--data", "nowhere"), "nowhere: there is no such folder"),
        (("train", "sta_lstm_stick_figures", "--set", "train.epcohs=1"), "did you mean train.epochs?"),
        (("train", "sta_lstm_stick_figures", "--resume", "--run", "x", "--set", "x"), "SETTING=VALUE"),
        (("train", "--resume", "--run", "nowhere"), "nowhere: no such folder"),
        (("test", "nowhere"), "nowhere: no such folder"),
        (("predict", "nowhere", "x.npz"), "nowhere: no such folder"),
        (("show", "nowhere"), "nowhere: no such folder"),
        (("localize", "nowhere"), "nowhere: no such folder"),
        (("repeat", "sta_lstm_stick_figures", "--seeds", "a"), "--seeds a"),
        (("repeat", "sta_lstm_stick_figures", "--folds", "9"), "--folds 9"),
        (("repeat", "sta_lstm_stick_figures", "--seeds", "0,0"), "--seeds 0,0 repeats 0"),
        (("init", "no_folder/x.toml"), "no_folder/x.toml: there is no folder no_folder"),
        (("init", "--model", "lstm"), "no model 'lstm'"),
        (("init", "--model", "TDN"), "Did you mean tdn?"),
        (("train", "."), "Train a model on the recordings in it with `muybridge train --model NAME --data .`"),
        (("test", __file__), "a file, not a run folder"),
    ],
)
def test_user_errors_are_printed_without_a_traceback(call, words: tuple[str, ...], message: str):
    code, out, err = call(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err


def test_init_overwrites_nothing(call, tmp_path: Path):
    (tmp_path / "recipe.toml").write_text("mine")
    code, _, err = call("init")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "recipe.toml").read_text() == "mine"


def test_the_demo_goes_from_videos_to_figures(call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The demo as it is, with fewer videos, one epoch, smaller frames."""
    whole = recipe.load_recipe
    small = {"data.scenes": 3, "data.test_scenes": 1, "train.epochs": 1, "model.size": 32}
    monkeypatch.setattr(recipe, "load_recipe", lambda name: whole(name, small))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out, err = call("demo")
    assert code == 0, err
    assert "12 recordings" in " ".join(out.split())  # one scene tests, with a video of each class
    assert "other shapes" in err
    drawn = {path.name for path in (tmp_path / "runs" / "demo" / "pictures").iterdir()}
    assert {"curves.png", "confusion-test.png"} < drawn
    assert {Path(name).suffix for name in drawn} == {".png", ".gif"}
    videos = list((tmp_path / "cache").rglob("*.mp4"))
    assert len(videos) == 36
    code, again, err = call("demo")  # what is trained stays trained
    assert code == 0, err
    assert again == out


def test_an_interrupted_command_says_what_continues_it(monkeypatch: pytest.MonkeyPatch, call, tmp_path: Path):
    def interrupt(*_: object, **__: object):
        raise KeyboardInterrupt

    monkeypatch.setattr("muybridge.engine.flow.make_flow", interrupt)
    code, _, err = call("flow", str(tmp_path))
    assert code == 130
    assert err == "muybridge: interrupted; the same command computes what is missing\n"
