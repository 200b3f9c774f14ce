"""From a released checkpoint to a run folder that answers as the network did."""

import sys
from pathlib import Path

import pytest
import torch

import muybridge
from muybridge import cli
from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.convert import convert_checkpoint, read_checkpoint
from muybridge.media.video import Video
from muybridge.models.tdn import TDNConfig
from tests.authors import TDN_KEY_PATTERNS, authors_keys, randomized
from tests.official import fabricate_kinetics, put
from tests.videos import write

SETTINGS = {"model.backbone": "resnet18", "model.segments": 3, "model.size": 64}
SMALL = TDNConfig(backbone="resnet18", segments=3, size=64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = authors_keys(randomized(SMALL.build(4)).state_dict(), TDN_KEY_PATTERNS, prefix="module.")
    torch.save({"epoch": 50, "state_dict": state, "best_prec1": torch.tensor(52.3)}, tmp_path / "tdn.pth")
    return tmp_path / "tdn.pth"


def test_a_checkpoint_becomes_a_run(file: Path, tmp_path: Path):
    (tmp_path / "names.csv").write_text("id,name\n0,push\n1,pull\n2,lift\n3,drop\n")
    run = convert_checkpoint(file, tmp_path / "run", model="tdn", labels=tmp_path / "names.csv", settings=SETTINGS)
    assert run.finished
    assert run.labels() == ("push", "pull", "lift", "drop")
    predictor = muybridge.load(run.path)
    original = randomized(SMALL.build(4)).eval()
    with Video(write(tmp_path / "video.mp4", 30)) as video, torch.no_grad():
        inputs, _ = predictor.prepare(video)
        expected = original(**inputs).logits.softmax(1)[0]
        answer = predictor(video, top=4)
    scores = dict(zip(answer.labels, answer.scores, strict=True))
    assert [scores[label] for label in run.labels()] == pytest.approx(expected.tolist(), rel=1e-3)


def test_a_run_has_the_benchmark_of_its_recipe(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_kinetics(tmp_path / "kinetics400", train=("abseiling", "zumba", "air drumming", "crawling"))

    def convert(run: str) -> RunFolder:
        return convert_checkpoint(file, tmp_path / run, recipe="tdn_kinetics400", settings=SETTINGS)

    monkeypatch.delenv("MUYBRIDGE_DATA", raising=False)
    assert convert("without").labels() == ("class 0", "class 1", "class 2", "class 3")
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    run = convert("run")
    assert run.labels() == data.labels() == ("abseiling", "air drumming", "crawling", "zumba")
    assert len(run.recipe().data.index("test")) == 2
    put(
        tmp_path / "kinetics400" / "annotations" / "train.csv", "label,youtube_id,time_start,time_end\na,b,1,2\nc,d,1,2"
    )
    with pytest.raises(DataError, match=r"kinetics400: the data set of the recipe has 2 classes\. Expected 4"):
        convert("other")


def test_the_command(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    words = ["muybridge", "convert", str(file), "--model", "tdn", "--run", str(tmp_path / "run"), *settings]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert muybridge.load(tmp_path / "run").labels == ("class 0", "class 1", "class 2", "class 3")


def test_errors_name_the_problem(file: Path, tmp_path: Path):
    def refused(error: type[Exception], match: str, **arguments) -> None:
        with pytest.raises(error, match=match):
            convert_checkpoint(file, tmp_path / "run", **({"model": "tdn", "settings": SETTINGS} | arguments))
        assert not (tmp_path / "run").exists()

    torch.save({"state_dict": {}}, tmp_path / "empty.pth")
    with pytest.raises(RunError, match=r"empty\.pth: the checkpoint contains no parameters"):
        convert_checkpoint(tmp_path / "empty.pth", tmp_path / "run", model="tdn", settings=SETTINGS)
    (tmp_path / "two.txt").write_text("push\npull\n")
    refused(DataError, r"two.txt: it names 2 classes\. Expected 4", labels=tmp_path / "two.txt")
    refused(DataError, r"gone.txt: it cannot be read", labels=tmp_path / "gone.txt")
    (tmp_path / "twice.txt").write_text("push\npull\npush\ndrop\n")
    refused(DataError, r"twice.txt: the class 'push' is given twice", labels=tmp_path / "twice.txt")
    refused(RecipeError, "both a model and a recipe", recipe="folder_tdn")
    refused(RecipeError, "neither a model nor a recipe", model=None)
    refused(RunError, r"contains a resnet18.*backbone", settings={})
    torch.save([1, 2], file)
    refused(RunError, r"tdn.pth: the checkpoint is a list")
    file.write_bytes(b"not a checkpoint")
    refused(RunError, r"tdn.pth: the checkpoint cannot be read")


def test_nothing_is_unpickled_but_tensors(tmp_path: Path):
    torch.save({"state_dict": {}, "path": tmp_path}, tmp_path / "more.pth")
    with pytest.raises(RunError, match=r"cannot be read .*weights_only=False"):
        read_checkpoint(tmp_path / "more.pth")


def test_a_run_is_not_overwritten(file: Path, tmp_path: Path):
    convert_checkpoint(file, tmp_path / "run", model="tdn", settings=SETTINGS)
    with pytest.raises(RunError, match="already contains a run"):
        convert_checkpoint(file, tmp_path / "run", model="tdn", settings=SETTINGS)
