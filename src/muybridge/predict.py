"""From files to named actions, along the same path as training and testing."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from muybridge.core.contracts import Holds, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.types import Prediction, SkeletonSequence
from muybridge.data.datasets.skeleton_folder import skeletons_in
from muybridge.data.prepare import collate_inputs
from muybridge.data.skeleton_ops import match_layout
from muybridge.engine.checkpoint import RunFolder
from muybridge.media.skeleton import SUFFIXES as SKELETONS
from muybridge.media.skeleton import read_skeleton
from muybridge.media.video import SUFFIXES as VIDEOS
from muybridge.media.video import Video, videos_in


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
        self.prepare = self.recipe.preparation()

    def __repr__(self) -> str:
        return f"Predictor({self.recipe.model.name}, {len(self.labels)} classes)"

    def __call__(self, what: str | Path | SkeletonSequence | Video, top: int = 5) -> Prediction:
        """Name the action in one file or one recording already opened.

        Args:
            what: for a model of skeletons, a file in any known format or a :class:`SkeletonSequence` in the layout of
                training; for a model of clips, a video file, a folder of frames or a :class:`Video`.
            top: how many classes to name, best first.

        Raises:
            DataError: the file cannot be read, or holds another kind of recording than the model was trained on.
        """
        if not isinstance(what, str | Path):
            return self._name(what, "recording", top)
        recording = self.read(Path(what))
        try:
            return self._name(recording, str(what), top)
        finally:
            if isinstance(recording, Video):
                recording.close()

    def read(self, path: Path) -> SkeletonSequence | Video:
        """A recording from a file in any known format; skeletons have as many people as in training."""
        holds = self.recipe.data.holds()
        if isinstance(holds, SkeletonData):
            return match_layout(read_skeleton(path), holds, str(path))
        return Video(path, channels=1 if holds.channels == 1 else 3)

    def find(self, paths: Sequence[str | Path]) -> Iterator[Path]:
        """The recordings of this run's kind that are meant by a list of files and folders.

        Raises:
            DataError: a path does not exist, or a folder holds no recording.
        """
        return find_recordings(paths, self.recipe.data.holds())

    def _name(self, recording: SkeletonSequence | Video, name: str, top: int) -> Prediction:
        inputs, _ = self.prepare(recording)
        with torch.inference_mode():
            output = self.model(**{key: value.to(self.device) for key, value in collate_inputs([inputs]).items()})
        scores, order = self.prepare.average_views(output.logits)[0].exp().cpu().sort(descending=True)
        return Prediction(
            id=name,
            labels=tuple(self.labels[index] for index in order[:top].tolist()),
            scores=tuple(scores[:top].tolist()),
            maps={key: value[0].cpu() for key, value in output.maps.items()},
        )


def find_recordings(paths: Sequence[str | Path], holds: Holds) -> Iterator[Path]:
    """The recordings of a kind that are meant by a list of files and folders; folders are searched for known endings.

    Raises:
        DataError: a path does not exist, or a folder holds no recording.
    """
    skeletons = isinstance(holds, SkeletonData)
    endings = ", ".join(SKELETONS if skeletons else VIDEOS)
    for path in map(Path, paths):
        if path.is_dir():
            found = skeletons_in(path) if skeletons else videos_in(path)
            if not found:
                raise DataError(
                    "no recording in this folder",
                    expected=f"files that end in {endings}" + ("" if skeletons else ", or folders of pictures"),
                    hint="check the path",
                    where=path,
                )
            yield from found
        elif path.is_file():
            yield path
        else:
            raise DataError(
                "no such file", expected="a recording or a folder of them", hint="check the path", where=path
            )
