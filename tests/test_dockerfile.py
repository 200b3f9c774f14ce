"""The Dockerfile, as far as that can be checked without building it: files, user, health check, command."""

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from muybridge.cli import app as cli
from muybridge.serve.config import ServeConfig
from tests.serving import serving

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Each instruction and its arguments, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def test_what_is_copied_exists_and_reaches_the_build(instructions: list[tuple[str, str]]):
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = [arguments.split() for name, arguments in instructions if name == "COPY"]
    sources = [word for words in copied if not words[0].startswith("--from") for word in words[:-1]]
    assert set(sources) >= {"pyproject.toml", "src", "recipes"}
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in rules
    shipped = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patterns = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    assert not [path for path in shipped.split() if any(fnmatch(part, p) for part in path.split("/") for p in patterns)]


def test_the_files_that_the_build_needs_are_copied(instructions: list[tuple[str, str]]):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    copied = {word for name, arguments in instructions if name == "COPY" for word in arguments.split()}
    assert needed <= copied
    extras = next(arguments for name, arguments in instructions if name == "ARG" and arguments.startswith("EXTRAS"))
    named = extras.split("=")[1].strip('"').split(",")
    assert set(named) <= set(project["project"]["optional-dependencies"])
    assert "serve" in named


def test_it_runs_as_a_user_of_its_own_and_the_command_is_one_of_ours(instructions: list[tuple[str, str]]):
    last = dict(instructions)
    names = [name for name, _ in instructions]
    assert last["USER"].split(":")[0].isdigit()
    assert int(last["USER"].split(":")[0]) > 0
    assert max(at for at, name in enumerate(names) if name == "RUN") < names.index("USER")
    program, command, *options = json.loads(last["ENTRYPOINT"])
    assert program == "muybridge"
    serve = next(one for one in cli.registered_commands if one.callback and one.callback.__name__ == command)
    assert serve.callback is not None
    parameters = serve.callback.__wrapped__.__code__.co_varnames  # pyright: ignore
    assert {option.removeprefix("--") for option in options if option.startswith("--")} <= set(parameters)
    assert last["EXPOSE"] == options[options.index("--port") + 1]
    assert not ServeConfig(host="0.0.0.0", token="x").is_local  # so that a container needs a token


def test_the_health_check_sees_a_server_and_its_absence(instructions: list[tuple[str, str]]):
    check = dict(instructions)["HEALTHCHECK"]
    _, option, script = json.loads(check[check.index("[") :])
    assert option == "-c"

    def status(port: int) -> int:
        at_port = script.replace(":8000/", f":{port}/")
        assert at_port != script
        return subprocess.run([sys.executable, "-c", at_port], capture_output=True, check=False).returncode

    with serving({}, ServeConfig(port=0, jobs=1, token="secret")) as (client, _):
        port = client.base_url.port
        assert port is not None
        assert status(port) == 0
    assert status(port) != 0
