"""Runs on the hub: sent with a card and without anything private, read again, and errors that say what to do."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import muybridge
from muybridge.core.errors import RunError
from muybridge.core.hub import is_hub_address, parse_hub_address
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.hub import FILES, fetch, push
from muybridge.hub.card import model_card
from muybridge.hub.public import public_recipe
from muybridge.recipe import dump
from muybridge.serve.run import load_all
from tests.hub import TOKEN, Hub, hub
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    train(tiny_recipe(write_recordings(root / "secret-place"), epochs=2), root / "run")
    evaluate(RunFolder.open(root / "run"))
    return root / "run"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A hub, and a client that knows it and has an empty cache."""
    with hub() as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield stand_in


def test_what_is_pushed_predicts_the_same_anywhere(online: Hub, run: Path):
    assert push(run, "anna/hands") == f"{online.address}/anna/hands"
    recording = next((run.parent / "secret-place").glob("a01_s02*"))
    expected = muybridge.load(run, "cpu")(recording)
    there = muybridge.load("hf://anna/hands", "cpu")
    assert there.run != run
    assert there(recording).scores == expected.scores
    assert there(recording).labels == expected.labels


def test_only_what_predicting_needs_is_sent_and_nothing_private(online: Hub, run: Path):
    push(run, "anna/hands", private=True, message="first")
    repository = online.models["anna/hands"]
    sent = set(repository.files)
    assert sent <= {*FILES, "README.md"}
    assert {"recipe.toml", "labels.txt", "weights.safetensors", "run.json", "test.json", "README.md"} <= sent
    assert repository.private
    assert repository.messages == ["first"]
    for name, content in repository.files.items():
        assert str(run.parent).encode() not in content, name
        assert b"s02_e01" not in content, name  # the name of a recording
    assert b'root = "secret-place"' in repository.files["recipe.toml"]
    assert json.loads(repository.files["run.json"])["paths"] == {}


def test_a_public_recipe_names_no_recording_and_no_folder(run: Path, tmp_path: Path):
    videos = write_videos(tmp_path / "films", people="ab", takes=1)
    groups = tmp_path / "people.csv"
    groups.write_text("file,group\n")
    recipe = tiny_clip_recipe(videos, init_from={"": {"run": str(tmp_path / "first")}})
    own = recipe.with_settings({"data.exclude": ["dawn/a_0"], "data.group": str(groups)})
    text = json.dumps(dump(public_recipe(own)))
    assert str(tmp_path) not in text
    assert "a_0" not in text
    assert '"root": "films"' in text
    assert '"group": "people.csv"' in text
    assert public_recipe(recipe).data.group == "/([a-z])_"  # a pattern, though it looks like a path


def test_a_pickle_on_the_hub_is_never_fetched(online: Hub, run: Path):
    push(run, "anna/hands")
    online.models["anna/hands"].files["state.pt"] = b"cos\nsystem\n(S'true'\ntR."
    folder = fetch("hf://anna/hands")
    assert {path.name for path in folder.iterdir()} <= set(FILES)
    assert not any("state.pt" in path for path in online.asked)


def test_a_second_push_replaces_what_an_earlier_run_left_and_can_keep_the_card(online: Hub, run: Path):
    push(run, "anna/hands")
    files = online.models["anna/hands"].files
    files |= {"calibration.json": b"{}", "README.md": b"my own words", "film.gif": b"GIF"}
    push(run, "anna/hands", card=False)
    files = online.models["anna/hands"].files
    assert "calibration.json" not in files  # it belonged to other weights
    assert files["README.md"] == b"my own words"
    assert files["film.gif"] == b"GIF"


def test_a_revision_is_chosen(online: Hub, run: Path):
    push(run, "anna/hands")
    repository = online.models["anna/hands"]
    first, _ = repository.at("main") or ("", {})
    repository.commits.append({**repository.files, "labels.txt": b"changed\n"})
    assert (fetch(f"hf://anna/hands@{first}") / "labels.txt").read_bytes() == (run / "labels.txt").read_bytes()
    assert (fetch("hf://anna/hands") / "labels.txt").read_bytes() == b"changed\n"
    with pytest.raises(RunError, match=r"no revision 'v9'.*Expected a branch, a tag or a commit.*Correct the address"):
        fetch("hf://anna/hands@v9")


def test_without_a_connection_the_cache_answers_or_the_error_names_the_cure(
    online: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
):
    push(run, "anna/hands")
    folder = fetch("hf://anna/hands")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("hf://anna/hands") == folder
    expected = r"hub at http://127.0.0.1:9 cannot be reached.*Expected a connection.*`hf download anna/other`"
    with pytest.raises(RunError, match=expected):
        fetch("hf://anna/other")
    with pytest.raises(RunError, match=r"hf://anna/hands: the hub at .* cannot be reached"):
        push(run, "anna/hands")


def test_refusals_of_the_hub_say_what_to_do(online: Hub, run: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        RunError, match=r"hf://anna/none: the hub refuses access, or has no such model.*`hf auth login`"
    ):
        fetch("hf://anna/none")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RunError, match=r"refuses access.*status 401.*HF_TOKEN"):
        push(run, "anna/hands")
    for name in ("hands", "a/b/c", "anna/--"):
        with pytest.raises(RunError, match=r"Expected (hf://)?user/name"):
            push(run, name)


def test_a_model_of_another_kind_is_refused(online: Hub, run: Path):
    push(run, "anna/hands")
    online.models["anna/hands"].commits.append({"config.json": b"{}", "pytorch_model.bin": b""})
    with pytest.raises(RunError, match=r"not a run of muybridge: there is no run.json.*`muybridge push`.*Check"):
        fetch("hf://anna/hands")


def test_what_is_not_trained_to_its_end_or_damaged_is_not_sent(online: Hub, run: Path, tmp_path: Path):
    import shutil

    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy/state.pt").write_bytes(b"")
    with pytest.raises(RunError, match=r"not finished. Expected a run that is trained to its end.*--resume"):
        push(tmp_path / "copy", "anna/hands")
    (tmp_path / "copy/state.pt").unlink()
    weights = tmp_path / "copy/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match="checksum differs"):
        push(tmp_path / "copy", "anna/hands")
    assert online.models == {}


def test_the_card_says_what_it_is_how_well_it_does_and_where_it_differs(run: Path):
    card = model_card(RunFolder.open(run), "anna/hands", "apache-2.0")
    _, head, body = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    saved = json.loads((run / "test.json").read_text())
    assert facts["license"] == "apache-2.0"
    assert facts["library_name"] == "muybridge"
    assert {"action-recognition", "skeleton", "sta_lstm"} <= set(facts["tags"])
    metrics = facts["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == round(saved["top1"], 2)
    assert f"| test part | {saved['top1']:.2f} | {saved['mean_class_accuracy']:.2f} |" in body
    assert 'muybridge.load("hf://anna/hands")' in body
    spec = RunFolder.open(run).recipe().model.spec
    assert spec.differences
    assert all(f"- **{name}**: {reason}" in body for name, reason in spec.differences.items())
    assert re.search(r"```toml\n.*name = \"sta_lstm\"", body, re.DOTALL)
    assert str(run.parent) not in card


def test_a_run_that_was_not_tested_says_so(run: Path, tmp_path: Path):
    train(tiny_recipe(run.parent / "secret-place", epochs=1), tmp_path / "run")
    card = model_card(RunFolder.open(tmp_path / "run"), "anna/hands")
    assert "This run was not tested." in card
    assert "model-index" not in card
    assert "license" not in yaml.safe_load(card.split("---\n")[1])


def test_addresses():
    assert is_hub_address("hf://anna/hands")
    assert is_hub_address(Path("hf://anna/hands"))
    assert not is_hub_address("runs/hf")
    assert parse_hub_address(Path("hf://anna/hands@v1.0")) == ("anna/hands", "v1.0")
    with pytest.raises(RunError, match=r"hf://anna: not the address.*Expected hf://user/name.*Correct"):
        parse_hub_address("hf://anna")


def test_the_command_line_pushes_predicts_and_serves_from_the_hub(online: Hub, run: Path, tmp_path: Path):
    torch.set_num_threads(1)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def muybridge_(*words: object) -> str:
        command = [sys.executable, "-m", "muybridge", *map(str, words)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert muybridge_("push", run, "anna/hands").strip() == f"{online.address}/anna/hands"
    recording = next((run.parent / "secret-place").glob("a01_s02*"))
    expected = muybridge.load(run, "cpu")(recording)
    answer = json.loads(muybridge_("predict", "hf://anna/hands", recording, "--json", "--device", "cpu"))
    assert answer["labels"][0] == expected.label if "labels" in answer else expected.label in json.dumps(answer)
    assert list(load_all([Path("hf://anna/hands")], "cpu")) == ["hands"]
