"""A run folder: what a training leaves behind, written so that neither a kill nor a full disk can damage it.

recipe.toml          the complete recipe
labels.txt           class names in label order, one on each line
run.json             format of the folder, versions, precision, where the data is relative to the folder
split.csv            the recordings of each split when the training started
durations.json       how long a sample of the training recordings is
bodies.json          of skeletons, how bodies stand in a sample of the training recordings, and how large they are
weights.safetensors  the trained parameters; ``stages/NAME.safetensors`` those of each finished stage
state.pt             the state of an unfinished training
journal.jsonl        one row for each epoch
excluded.tsv         recordings that are not in the index, and why
baseline.json        how far simple baselines get on the same split
calibration.json     temperature of the probabilities, of a run that was calibrated
test.json, ...       results of a test; ``pictures/`` what `muybridge show` drew
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from muybridge.core.errors import RunError
from muybridge.core.files import atomic_write, lock_folder
from muybridge.data.datasets.base import Excluded
from muybridge.engine.calibration import FILE as CALIBRATION
from muybridge.engine.calibration import Calibration, read_calibration
from muybridge.engine.run_format import FORMAT, check_run
from muybridge.engine.saved_split import SavedSplit
from muybridge.engine.weights import load_weights, read_weights_file, save_weights, stored_checksum
from muybridge.recipe import Recipe, flat_settings, load_recipe, save_recipe

_SHOWN = 4


class RunFolder:
    """Reads and writes the files of one run; every file appears complete or not at all."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: Recipe,
        labels: tuple[str, ...],
        excluded: Mapping[str, Iterable[Excluded]],
        state: dict[str, Any],
        split: SavedSplit | None = None,
        precision: str = "",
        device: str = "cpu",
    ) -> "RunFolder":
        """Start a new run.

        Args:
            path: the folder; made if needed.
            recipe: the complete recipe.
            labels: class names in label order.
            excluded: recordings that are not in the index, by split.
            state: of the training at its start.
            split: the recordings of each split; None where nothing is trained here.
            precision: the number format of the training.
            device: the kind of device of the training.

        Raises:
            RunError: the folder cannot be written.
        """
        run = cls(path)
        run.make()
        with run.writing("recipe.toml") as file:
            save_recipe(recipe, file)
        with run.writing("labels.txt") as file:
            file.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        run._write_excluded([(name, recording) for name, part in excluded.items() for recording in part])
        if split is not None:
            with run.writing("split.csv") as file:
                split.write(file)
        run.write_state(state)
        # Last, because its presence makes the folder a run.
        run.write_json(
            "run.json",
            {
                "format": FORMAT,
                "muybridge": version("muybridge"),
                "torch": torch.__version__,
                "precision": precision,
                "device": device,
                "settings": comparable_settings(recipe),
                "paths": _relative_paths(recipe, run.path),
            },
        )
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run.

        Raises:
            RunError: no such folder, not a run, damaged, or made by another version.
        """
        run = cls(path)
        check_run(run.path)
        return run

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        check_run(self.path)
        return json.loads((self.path / "run.json").read_text(encoding="utf-8"))

    def make(self) -> None:
        """Make the folder; RunError if it cannot be written."""
        with write_errors(self.path):
            (self.path / "stages").mkdir(parents=True, exist_ok=True)

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether the training reached its end."""
        return self.exists and not (self.path / "state.pt").exists()

    def recipe(self, data: Path | None = None) -> Recipe:
        """The complete recipe of the run.

        Args:
            data: the folder of the recordings, if they have moved. Without it, a path that does not exist any more is
                looked for where it was relative to the run folder, or under MUYBRIDGE_DATA.

        Raises:
            RecipeError: recipe.toml was made invalid, or the data set has no folder.
        """
        moved = {} if data is None else {"data.root": str(data.expanduser().resolve())}
        recipe = self.read_recipe()
        for name, path in _paths(recipe).items():
            if name not in moved and not path.exists() and (found := self._find(name)):
                moved[name] = str(found)
        return recipe.with_settings(moved) if moved else recipe

    def read_recipe(self) -> Recipe:
        """The recipe as it was written, with the paths of then; raises RecipeError if it was made invalid."""
        return load_recipe(self.path / "recipe.toml")

    def different_settings(self, recipe: Recipe) -> str:
        """How a recipe differs from the one that the run was started with, in words; empty where it does not."""
        there, here = self.facts()["settings"], json.loads(json.dumps(comparable_settings(recipe)))
        names = [name for name in sorted(there | here) if there.get(name) != here.get(name)]
        shown = [f"{name} is {_value(there, name)} there and {_value(here, name)} here" for name in names[:_SHOWN]]
        return "; ".join(shown + ([f"{len(names) - _SHOWN} more differ"] if len(names) > _SHOWN else []))

    def labels(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple((self.path / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1])

    def split(self) -> SavedSplit | None:
        """The recordings of each split when the training started; None where nothing was trained here."""
        path = self.path / "split.csv"
        return SavedSplit.read(path) if path.exists() else None

    def model(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The trained model, in evaluation mode on the CPU.

        Args:
            dtype: of its floating-point parameters.

        Raises:
            RunError: not trained yet, a damaged weights file, or one of another model or other classes.
        """
        path = self.path / "weights.safetensors"
        if not path.is_file():
            raise RunError(
                "no weights yet",
                expected="a finished training",
                hint=f"resume it with `muybridge train --run {self.path} --resume`",
                where=self.path,
            )
        recipe, labels, weights = self.recipe(), self.labels(), read_weights_file(path)
        if weights.labels not in (None, labels):
            raise RunError(
                "labels.txt was changed: its class names are not those that the weights were trained with",
                expected=", ".join(weights.labels or ()),
                hint="restore labels.txt with one of these names on each line, in this order",
                where=self.path,
            )
        model = recipe.model.without_pretrained().build(len(labels), recipe.data.holds()).to(dtype)
        load_weights(model, weights.tensors, path)
        return model.eval()

    def calibration(self) -> Calibration | None:
        """How its probabilities are calibrated; None where they are not.

        Raises:
            RunError: the file is damaged, or belongs to other weights.
        """
        return read_calibration(self.path, self.weights_checksum())

    def weights_checksum(self) -> str:
        """The checksum that the weights file says it has; empty where it has none."""
        return stored_checksum(self.path / "weights.safetensors")

    def write_calibration(self, calibration: Calibration) -> None:
        """Save the calibration, with which the run predicts from now on."""
        self.write_json(CALIBRATION, calibration.as_dict())

    def write_weights(self, name: str, model: nn.Module) -> None:
        """Save a model's parameters and buffers as ``NAME.safetensors``, with a checksum and the class names."""
        with self.writing(f"{name}.safetensors") as file:
            save_weights(model, self.labels(), file)

    def write_state(self, state: dict[str, Any]) -> None:
        """Save the state of the training."""
        with self.writing("state.pt") as path, path.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch's writer hides the failed write behind an error of its own
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def read_state(self) -> dict[str, Any]:
        """The state of the training; raises RunError if it cannot be read."""
        path = self.path / "state.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
            raise RunError(
                f"not readable ({type(error).__name__})",
                expected="the saved state of a training",
                hint="remove the run folder and train again",
                where=path,
            ) from None

    def clear_state(self) -> None:
        """Remove the state: the training has ended, and nothing is left to resume."""
        (self.path / "state.pt").unlink(missing_ok=True)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        with self.writing(name) as file:
            file.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def exclude(self, split: str, recordings: Iterable[Excluded]) -> None:
        """Add recordings to ``excluded.tsv``, each once."""
        self._write_excluded([(split, recording) for recording in recordings], self._read_excluded())

    def excluded(self, split: str) -> int:
        """How many recordings of a split are not in the index."""
        return sum(row[0] == split for row in self._read_excluded())

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary file to write, which takes its name, and is flushed to the disk, when the block succeeds."""
        with write_errors(self.path / name), atomic_write(self.path / name) as draft:
            yield draft

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other trainings out of the folder, which exists; a process that ends, however it ends, gives it back.

        Raises:
            RunError: another process trains into this folder.
        """
        taken = RunError(
            "another process trains into this folder",
            expected="one training at a time",
            hint="wait for it, or choose another --run folder",
            where=self.path,
        )
        with lock_folder(self.path, taken):
            yield

    def check_disk_space(self, model: nn.Module) -> None:
        """Refuse to start when the disk cannot hold what the training will write."""
        weights = sum(value.nbytes for value in model.state_dict().values())
        # Two states (old and draft) of weights, average and two optimizer moments, and two weights files.
        needed, free = 10 * weights + 2**24, shutil.disk_usage(self.path).free
        if free < needed:
            raise RunError(
                f"{free / 1e6:.0f} MB free on the disk",
                expected=f"at least {needed / 1e6:.0f} MB for weights and training state",
                hint="free some space or choose another --run folder",
                where=self.path,
            )

    def _find(self, name: str) -> Path | None:
        """Where a path of the recipe is now, by where it was relative to the run folder or to MUYBRIDGE_DATA."""
        saved = self.facts().get("paths", {}).get(name, {})
        bases = {"run": self.path.resolve(), "MUYBRIDGE_DATA": Path(os.environ.get("MUYBRIDGE_DATA") or os.devnull)}
        candidates = (Path(os.path.normpath(bases[base] / relative)) for base, relative in saved.items())
        return next((path for path in candidates if path.exists()), None)

    def _read_excluded(self) -> list[list[str]]:
        path = self.path / "excluded.tsv"
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file, dialect="excel-tab"))[1:]

    def _write_excluded(self, recordings: Iterable[tuple[str, Excluded]], rows: Iterable[list[str]] = ()) -> None:
        new = [[split, recording.id, str(recording.path), recording.reason] for split, recording in recordings]
        unique = list(dict.fromkeys(map(tuple, (*rows, *new))))
        with self.writing("excluded.tsv") as path, path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, dialect="excel-tab", lineterminator="\n").writerows(
                [("split", "id", "path", "reason"), *unique]
            )


def comparable_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe by dotted names, without those that may differ when a training is resumed.

    These are words, expectations, what never changes a result, and where the data is: its content is compared.
    """
    free = {"title", "train.num_workers", "train.strategy", "train.save_seconds", "train.loggers", *_paths(recipe)}
    flat = flat_settings(recipe)
    return {name: value for name, value in flat.items() if name not in free and not name.startswith("expects.")}


def _value(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "not set"


@contextmanager
def write_errors(where: Path) -> Iterator[None]:
    """Turn failing writes into a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror or error})",
            expected="a writable folder with free space",
            hint="free some space or choose another --run folder; what was saved before is intact",
            where=where,
        ) from error


def _paths(recipe: Recipe) -> dict[str, Path]:
    """The absolute paths in a recipe that point to data, by dotted names."""
    paths: dict[str, Path] = {}

    def collect(config: BaseModel, prefix: str) -> None:
        for name in type(config).model_fields:
            value = getattr(config, name)
            if isinstance(value, Path) and value.is_absolute():
                paths[f"{prefix}.{name}"] = value

    for prefix in ("data", "view", "flow"):
        if (config := getattr(recipe, prefix)) is not None:
            collect(config, prefix)
    return paths


def _relative_paths(recipe: Recipe, folder: Path) -> dict[str, dict[str, str]]:
    """Where each of those paths is, relative to the run folder and, where it is below it, to MUYBRIDGE_DATA."""
    found: dict[str, dict[str, str]] = {}
    data = os.environ.get("MUYBRIDGE_DATA")
    root = Path(data).expanduser().resolve() if data else None
    for name, path in _paths(recipe).items():
        found[name] = {}
        with suppress(ValueError):  # another drive of Windows
            found[name]["run"] = Path(os.path.relpath(path, folder.resolve())).as_posix()
        if root and path.resolve().is_relative_to(root):
            found[name]["MUYBRIDGE_DATA"] = path.resolve().relative_to(root).as_posix()
    return found
