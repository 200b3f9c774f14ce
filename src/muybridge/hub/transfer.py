"""Sending a run to the hub, and reading one from it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from muybridge.core.errors import RunError
from muybridge.core.hub import cache_only_where_the_hub_is_unreachable, can_connect, hub_url, parse_hub_address
from muybridge.engine.calibration import FILE as CALIBRATION
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import FILE as DURATIONS
from muybridge.hub.card import model_card
from muybridge.hub.public import public_facts, public_recipe, public_scores
from muybridge.recipe import save_recipe

CARD = "README.md"
COPIED = ("labels.txt", "weights.safetensors", CALIBRATION, DURATIONS, "bodies.json")
SCORES = ("test.json", "val.json")
FILES = ("recipe.toml", "run.json", *COPIED, *SCORES)
"""What a run on the hub consists of, beside its card; nothing else is read from there."""


def push(
    run: str | Path, name: str, *, private: bool = False, license: str = "", message: str = "", card: bool = True
) -> str:
    """Send a trained run to the hub as one commit, with a model card; a repository that there is not yet is made.

    Args:
        run: a run folder.
        name: of the repository, ``user/name``.
        private: whether a new repository is private.
        license: of the weights, as the hub names it (``apache-2.0``); empty leaves it open.
        message: of the commit.
        card: whether to write the card; False leaves the one that is there.

    Returns:
        The address of the model's page.

    Raises:
        RunError: no such run, not trained to its end, or damaged; the hub cannot be reached or refuses it.
    """
    folder = RunFolder.open(run)
    name, _ = parse_hub_address(name if name.startswith("hf:") else f"hf://{name}")
    with TemporaryDirectory(prefix="muybridge-push-") as draft:
        write_public(folder, Path(draft))
        if card:
            (Path(draft) / CARD).write_text(model_card(folder, name, license), encoding="utf-8")
        if not can_connect(hub_url()):
            raise _unreachable(name)
        api = _client()
        with _hub_errors(name):
            api.create_repo(name, private=private or None, exist_ok=True)
            # What an earlier run left there would not belong to these weights.
            api.upload_folder(
                repo_id=name,
                folder_path=draft,
                commit_message=message or f"A run of muybridge {version('muybridge')}",
                delete_patterns=list(FILES),
            )
    return f"{hub_url()}/{name}"


def write_public(run: RunFolder, folder: Path) -> None:
    """Write what is sent of a run, but for its card, into a folder.

    Raises:
        RunError: it is not trained to its end, or its weights are damaged.
    """
    if not run.finished:
        raise RunError(
            "the training is not finished",
            expected="a run that is trained to its end",
            hint=f"resume it with `muybridge train --run {run.path} --resume`",
            where=run.path,
        )
    run.model()  # refuses weights that are damaged or of another model
    run.calibration()
    recipe = public_recipe(run.read_recipe())
    save_recipe(recipe, folder / "recipe.toml")
    public = RunFolder(folder)
    public.write_json("run.json", public_facts(run.facts(), recipe))
    for name in SCORES:
        if (run.path / name).is_file():
            public.write_json(name, public_scores(run.path / name))
    for name in COPIED:
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)


def fetch(address: str | Path) -> Path:
    """A run of the hub as a folder in the hub's local cache, where later calls find it without a connection.

    Args:
        address: ``hf://user/name``, or with a branch, tag or commit ``hf://user/name@revision``.

    Raises:
        RunError: there is no such run, it may not be read, or the hub cannot be reached and the cache lacks it.
    """
    name, revision = parse_hub_address(address)
    with _hub_errors(name, revision), cache_only_where_the_hub_is_unreachable():
        folder = Path(_client().snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    if not (folder / "run.json").is_file():
        raise RunError(
            "not a run of muybridge: there is no run.json",
            expected="a model that `muybridge push` sent",
            hint="check the name",
            where=_shown(name, revision),
        )
    return folder


def _client() -> Any:
    from huggingface_hub import HfApi

    return HfApi(hub_url(), library_name="muybridge", library_version=version("muybridge"))


@contextmanager
def _hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """What the hub's client raises, as a RunError that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HFValidationError, errors.RevisionNotFoundError) as error:
        missing = isinstance(error, errors.RevisionNotFoundError)
        raise RunError(
            f"there is no revision {revision!r}" if missing else f"not a name on the hub ({_first_line(error)})",
            expected="a branch, a tag or a commit of the model" if missing else "user/name",
            hint="correct the address",
            where=_shown(name, revision),
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(name, revision) from error
    except errors.HfHubHTTPError as error:
        raise _refused(name, revision, error) from error
    except Exception as error:  # of the transport: the name resolution, TLS, a proxy, a connection that broke
        raise RunError(
            f"the exchange with the hub at {hub_url()} failed ({type(error).__name__}: {_first_line(error)})",
            expected="a connection that holds",
            hint="try again; what the cache has already is not fetched again",
            where=_shown(name, revision),
        ) from error


def _refused(name: str, revision: str | None, error: Any) -> RunError:
    status = getattr(error.response, "status_code", 0)
    if status in (401, 403, 404):
        return RunError(
            f"the hub refuses access, or has no such model (status {status})",
            expected="a model that exists and that you may use",
            hint="check the name; for your own and for private ones log in with `hf auth login`, or set HF_TOKEN, to a "
            "token that may write if you push",
            where=_shown(name, revision),
        )
    return RunError(
        f"the hub answers with status {status} ({_first_line(error)})",
        expected="a hub that works",
        hint="try again later",
        where=_shown(name, revision),
    )


def _unreachable(name: str, revision: str | None = None) -> RunError:
    return RunError(
        f"the hub at {hub_url()} cannot be reached, and the model is not in the local cache",
        expected="a connection to the hub, or a copy in its local cache (HF_HOME)",
        hint=f"connect, or run `hf download {name}` where there is a connection and copy the cache here; "
        "HF_HUB_OFFLINE=1 forbids connections, HF_ENDPOINT names another hub",
        where=_shown(name, revision),
    )


def _shown(name: str, revision: str | None) -> str:
    return f"hf://{name}" + (f"@{revision}" if revision else "")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
