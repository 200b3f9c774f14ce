"""A run folder: what a training leaves behind, written so that no kill or full disk can spoil it.

recipe.toml          the complete recipe
labels.txt           class names in label order, one a line
run.json             format of the folder, versions, what the data holds
weights.safetensors  the trained parameters; ``stages/NAME.safetensors`` those of each finished stage
state.pt             where an unfinished training goes on
journal.jsonl        one row an epoch
excluded.tsv         recordings that are not in the index, and why
test.json, ...       what a test said; ``pictures/`` what there is to look at
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from muybridge.core.errors import RunError
from muybridge.core.files import atomic_write
from muybridge.data.datasets.base import Excluded
from muybridge.engine.run_format import FORMAT, check_run
from muybridge.recipe import Recipe, load_recipe, save_recipe


class RunFolder:
    """Reads and writes the files of one run; every file appears whole or not at all."""

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
    ) -> "RunFolder":
        """Start a new run.

        Raises:
            RunError: the folder cannot be written.
        """
        run = cls(path)
        with _reported(path):
            path.mkdir(parents=True, exist_ok=True)
            (path / "stages").mkdir(exist_ok=True)
        with run.writing("recipe.toml") as file:
            save_recipe(recipe, file)
        with run.writing("labels.txt") as file:
            file.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        with run.writing("excluded.tsv") as file:
            rows = [_excluded_row(split, one) for split, all_ in excluded.items() for one in all_]
            file.write_text("".join(["split\tid\tpath\treason\n", *rows]), encoding="utf-8")
        run.write_state(state)
        # Last, because its presence makes the folder a run.
        run.write_json("run.json", {"format": FORMAT, "muybridge": version("muybridge"), "torch": torch.__version__})
        return run

    def exclude(self, split: str, recordings: Iterable[Excluded]) -> None:
        """Add recordings to ``excluded.tsv``, each once."""
        text = (self.path / "excluded.tsv").read_text(encoding="utf-8")
        rows = [_excluded_row(split, one) for one in recordings]
        with self.writing("excluded.tsv") as file:
            file.write_text("".join([text, *(row for row in rows if row not in text)]), encoding="utf-8")

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run.

        Raises:
            RunError: no such folder, not a run, or made by a newer or older version.
        """
        run = cls(path)
        check_run(run.path)
        return run

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether the training reached its end."""
        return self.exists and not (self.path / "state.pt").exists()

    def recipe(self) -> Recipe:
        """The complete recipe of the run."""
        return load_recipe(self.path / "recipe.toml")

    def labels(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple((self.path / "labels.txt").read_text(encoding="utf-8").splitlines())

    def model(self) -> nn.Module:
        """The trained model, in evaluation mode on the CPU.

        Raises:
            RunError: not trained yet, a damaged weights file, or one of another model.
        """
        if not (self.path / "weights.safetensors").is_file():
            raise RunError(
                "no weights yet",
                expected="a finished training",
                hint=f"go on with `muybridge train --run {self.path} --resume`",
                where=self.path,
            )
        recipe = self.recipe()
        model = recipe.model.without_pretrained().build(len(self.labels()), recipe.data.holds())
        load_weights(model, read_weights(self.path / "weights.safetensors"), self.path / "weights.safetensors")
        return model.eval()

    def write_weights(self, name: str, model: nn.Module) -> None:
        """Keep a model's parameters and buffers as ``NAME.safetensors``, with a checksum."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        with self.writing(f"{name}.safetensors") as file:
            safetensors.torch.save_file(tensors, file, metadata={"format": "pt", "checksum": checksum(tensors)})

    def write_state(self, state: dict[str, Any]) -> None:
        """Keep where the training stands."""
        with self.writing("state.pt") as file:
            torch.save(state, file)

    def read_state(self) -> dict[str, Any]:
        """Where the training stands."""
        path = self.path / "state.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as problem:  # noqa: BLE001 - torch raises many kinds for a damaged file
            raise RunError(
                f"not readable ({type(problem).__name__})",
                expected="the saved state of a training",
                hint="remove the run folder and train again",
                where=path,
            ) from None

    def clear_state(self) -> None:
        """The training has ended; nothing is left to resume."""
        (self.path / "state.pt").unlink(missing_ok=True)

    def write_json(self, name: str, content: Any) -> None:
        """Keep something as JSON."""
        with self.writing(name) as file:
            file.write_text(json.dumps(content, indent=1), encoding="utf-8")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary file to write; it takes its name when the block ends well, and is on the disk then."""
        with _reported(self.path / name), atomic_write(self.path / name) as draft:
            yield draft

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


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, without unpickling; RunError if it is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            told = (file.metadata() or {}).get("checksum")
    except (safetensors.SafetensorError, OSError) as problem:
        raise RunError(
            f"damaged weights file ({problem})",
            expected="a whole safetensors file",
            hint="restore the file or train again",
            where=path,
        ) from None
    if told is not None and told != checksum(tensors):
        raise RunError(
            "damaged weights file (checksum differs)",
            expected="the bytes that were written",
            hint="restore the file or train again",
            where=path,
        )
    return tensors


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load tensors into a model; RunError names what does not fit."""
    own = model.state_dict()
    wrong = [f"{key} missing" for key in own.keys() - tensors.keys()]
    wrong += [f"{key} unknown" for key in tensors.keys() - own.keys()]
    wrong += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & tensors.keys()
        if own[key].shape != tensors[key].shape
    ]
    if wrong:
        raise RunError(
            f"weights of another model: {', '.join(sorted(wrong)[:4])}" + (" ..." if len(wrong) > 4 else ""),
            expected="the parameters of the model in recipe.toml",
            hint="use the weights that belong to this recipe",
            where=where,
        )
    model.load_state_dict(dict(tensors))


def _excluded_row(split: str, one: Excluded) -> str:
    return f"{split}\t{one.id}\t{one.path}\t{one.reason}\n"


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _reported(where: Path) -> Iterator[None]:
    """Failing writes, in words."""
    try:
        yield
    except OSError as problem:
        raise RunError(
            f"cannot be written ({problem.strerror or problem})",
            expected="a folder with room that may be written",
            hint="free some space or choose another --run folder; what was saved before is whole",
            where=where,
        ) from problem
