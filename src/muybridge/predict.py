"""From files to named actions, along the same path as training and testing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from muybridge.core.errors import DataError
from muybridge.core.types import Prediction, SkeletonSequence
from muybridge.data.prepare import Preparation, stack
from muybridge.data.skeleton_ops import conform
from muybridge.engine.checkpoint import RunFolder
from muybridge.media.skeleton import SUFFIXES, read_skeleton


class Predictor:
    """A trained run, ready to name actions; :func:`muybridge.load` makes one.

    Args:
        run: a run folder.
        device: where the model computes.

    Raises:
        RunError: no such run, not trained, damaged, or made by a newer version.
    """

    def __init__(self, run: str | Path, device: str | torch.device = "cpu") -> None:
        folder = RunFolder.open(run)
        self.recipe = folder.recipe()
        self.labels = folder.labels()
        self.device = torch.device(device)
        self.model = folder.model().to(self.device)
        self.prepare = Preparation(self.recipe.model.takes(), self.recipe.data.holds())

    def __repr__(self) -> str:
        return f"Predictor({self.recipe.model.name}, {len(self.labels)} classes)"

    def __call__(self, what: str | Path | SkeletonSequence, top: int = 5) -> Prediction:
        """Name the action in one file or one recording already in memory.

        Args:
            what: a file in any known skeleton format, or a :class:`SkeletonSequence` in the layout of training.
            top: how many classes to name, best first.

        Raises:
            DataError: the file cannot be read, or holds another skeleton than the model was trained on.
        """
        recording = what if isinstance(what, SkeletonSequence) else self.read(Path(what))
        name = "recording" if isinstance(what, SkeletonSequence) else str(what)
        inputs, _ = self.prepare(recording)
        with torch.inference_mode():
            output = self.model(**{key: value.to(self.device) for key, value in stack([inputs]).items()})
        scores, order = output.logits[0].float().softmax(0).cpu().sort(descending=True)
        return Prediction(
            id=name,
            labels=tuple(self.labels[index] for index in order[:top].tolist()),
            scores=tuple(scores[:top].tolist()),
            maps={key: value[0].cpu() for key, value in output.maps.items()},
        )

    def read(self, path: Path) -> SkeletonSequence:
        """A recording from a file in any known format, with as many people as in training."""
        return conform(read_skeleton(path), self.recipe.data.holds(), str(path))


def find_recordings(paths: Sequence[str | Path]) -> Iterator[Path]:
    """The files meant by a list of files and folders; folders are searched for known endings.

    Raises:
        DataError: a path does not exist, or a folder holds no recording.
    """
    for path in map(Path, paths):
        if path.is_dir():
            found = [one for one in sorted(path.rglob("*")) if one.suffix.lower() in SUFFIXES]
            if not found:
                raise DataError(
                    "no recording in this folder",
                    expected=f"files that end in {', '.join(SUFFIXES)}",
                    cure="check the path",
                    where=path,
                )
            yield from found
        elif path.is_file():
            yield path
        else:
            raise DataError(
                "no such file", expected="a recording or a folder of them", cure="check the path", where=path
            )
