"""The README's commands, run as a newcomer would type them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.videos import write

ROOT = Path(__file__).parents[1]


def commands(page: str) -> list[str]:
    """The ``muybridge`` lines of a page's shell blocks."""
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("muybridge ")]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/recipes.md", "docs/tour.md"])
def test_every_command_is_understood(page: str):
    """Every option of every command exists, and every recipe named is shipped."""
    import click
    import typer

    from muybridge.cli import app
    from muybridge.recipe import shipped_recipes

    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    for line in commands(page):
        words = shlex.split(line)
        command = group.commands[words[1]]  # pyright: ignore[reportAttributeAccessIssue]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words[2:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, line
        if words[1] in ("train", "repeat") and len(words) > 2 and re.fullmatch(r"[a-z0-9_]+", words[2]):
            assert words[2] in shipped_recipes(), line


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
