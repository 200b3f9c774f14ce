"""The README's commands, run as a newcomer would type them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from muybridge.cli import app
from muybridge.recipe_schema import shipped_recipes
from tests.videos import write

ROOT = Path(__file__).parents[1]


PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands(page: str) -> list[list[str]]:
    """The ``muybridge`` commands in a page's blocks and in the code within its text, as words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(muybridge [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [shlex.split(line.partition("  #")[0]) for line in lines if line.startswith("muybridge ")]
    # `muybridge --version` names no command, and "muybridge tubes 1" is the name of a file format.
    return [words for words in found if not words[1].startswith("-") and words[1:] != ["tubes", "1"]]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page: str):
    """Every command exists with every option, and every recipe named is shipped."""
    group = typer.main.get_command(app)
    for words in commands(page):
        command = group.commands[words[1]]  # pyright: ignore[reportAttributeAccessIssue]
        known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
        for word in words[2:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, words
        takes_recipe = words[1] in ("train", "repeat", "bench", "features")
        if takes_recipe and len(words) > 2 and re.fullmatch(r"[a-z0-9_]+", words[2]):
            assert words[2] in shipped_recipes(), words


@pytest.mark.slow
def test_the_python_of_the_tour_runs(tmp_path: Path):
    """The tour's code blocks, one after the other, on a run trained for two epochs."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tour.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    train = "from muybridge.cli import main; import sys; sys.argv = ['muybridge', 'train', 'sta_lstm_stick_figures', "
    train += "'--run', 'runs/skeletons', '--set', 'train.epochs=1']; main()"
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "\n".join(blocks).replace('"train.epochs": 5', '"train.epochs": 1')
    find = "from muybridge.recipe import load_recipe\nimport shutil\n"
    find += "shutil.copy(load_recipe('sta_lstm_stick_figures').data.index('test').records[0].path, 'recording.npz')\n"
    write(tmp_path / "video.mp4")
    for script in (train, find + code):
        ended = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
    assert (tmp_path / "runs" / "mine" / "test.json").is_file()
