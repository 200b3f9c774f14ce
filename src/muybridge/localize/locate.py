"""Ask a trained run where in a video the predicted action takes place.

Legend: T frames of a video, S steps of a clip, U frames in any clip, h and w cells of a map, K classes.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.errors import MuybridgeWarning, RunError
from muybridge.core.tubes import Tube, TubeSet
from muybridge.core.types import Prediction
from muybridge.data.clip_ops import crop_boxes, eval_short_side
from muybridge.data.datasets.base import require_one_label
from muybridge.data.prepare import ClipPreparation, ViewConfig
from muybridge.data.sampling import sample_indices, window_indices, window_span
from muybridge.engine.calibration import calibrated
from muybridge.localize.linking import LINKING, Linking, Maps, MapSequence, attention_to_tubes, average_over_clips
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Item, Predictor, check_finite, top_classes

_MAPS = ("attention", "class_activation")
"""The maps that show where a model looked, the better first."""

COARSEST = 4
"""Cells along a side of a map; with fewer, boxes say little and a warning is given."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameMaps:
    """The maps of a whole video over its whole frames, computed when they are read.

    Only what the model gave is kept: at the usual 7x7 cells 196 bytes per frame.

    Attributes:
        cells: maps of the model's crop, for the frames that the model was shown.
        places: for each frame of the video, the number of its map in ``cells``.
        size: height and width of the frames in pixels.
        takes: the model's contract.
        view_config: how frames were scaled and cropped.
    """

    cells: Float[Tensor, "U h w"]
    places: Int64[Tensor, " T"]
    size: tuple[int, int]
    takes: ClipInput
    view_config: ViewConfig

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, frames: slice | Tensor, /) -> Maps:
        """The maps of some frames: a slice, or frame numbers."""
        return project_to_frame(self.cells[self.places[frames]], self.size, self.takes, self.view_config)


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """What a run predicts for one video, and where.

    Attributes:
        id: the record id, or the path that was given.
        labels: class names in label order.
        scores: probability of each class, ``K``.
        maps: how strongly each place counted, over the whole frame; ``maps[first:stop]`` is ``T h w``.
        tubes: around the peaks of the maps, in pixels of the file; best first.
        fps: frames per second.
    """

    id: str
    labels: tuple[str, ...]
    scores: Float[Tensor, " K"]
    maps: MapSequence
    tubes: list[Tube]
    fps: float

    @property
    def label(self) -> int:
        """The predicted class."""
        return int(self.scores.argmax())

    def prediction(self, top: int = 5) -> Prediction:
        """The ``top`` most probable classes, as :class:`Predictor` gives them."""
        return top_classes(self.id, self.labels, self.scores, top)

    def renamed(self, video: str) -> "Localization":
        """The same for a video of another id."""
        return replace(self, id=video, tubes=[replace(tube, video=video) for tube in self.tubes])

    def tube_set(self) -> TubeSet:
        """The tubes as :func:`muybridge.media.tubes.write_tubes` takes them."""
        return TubeSet(self.labels, tuple(self.tubes), {self.id: len(self.maps)}, {self.id: self.fps})


class Localizer:
    """A trained run that localizes the action it predicts.

    Models with attention (VideoLSTM and its relatives) use that; those over segments (TSN, TSM, TDN, SELFY) use class
    activation, which has little resolution in time. A model of clips is shown the video in clips that overlap by half
    and cover all of it; a video shorter than a clip is one clip, whose last frame is repeated. Models over segments are
    shown what testing shows them. Frames that are not shown take the map of the nearest one that is. Memory grows with
    the length of the video by a few kilobytes per frame.

    Args:
        run: a run folder, or a predictor that is loaded already, whose model then gives maps.
        device: where the model computes; "auto" takes the GPU where there is one.
        linking: how maps become tubes.

    Attributes:
        kind: the maps that the model last gave, "attention" or "class_activation"; empty before the first.

    Raises:
        RunError: no such run, not trained, damaged, or of a model of skeletons.
        RecipeError: the device does not exist.
    """

    def __init__(
        self, run: str | Path | Predictor, device: str | torch.device = "auto", linking: Linking = LINKING
    ) -> None:
        self.predictor = run if isinstance(run, Predictor) else Predictor(Path(run).expanduser(), device)
        self.run, self.kind = self.predictor.run, ""
        require_one_label(self.predictor.recipe.data, "a localization")
        self.linking = linking
        self._warned = False
        if not isinstance(self.predictor.prepare, ClipPreparation):
            raise self._refusal("takes skeletons, whose joints already are the location")
        self.prepare = self.predictor.prepare
        model = self.predictor.model
        assert isinstance(model, Model)
        model.return_maps = True

    def __call__(self, video: Item, name: str | None = None) -> Localization:
        """Predict the action in a video and localize it.

        A recording much longer than those of training, and maps of very few cells, give a :class:`MuybridgeWarning`.

        Args:
            video: a video file, a folder of frames, an array ``T H W C``, or a :class:`Video`, which stays open.
            name: record id, by which stored flow is found; otherwise flow is computed.

        Raises:
            DataError: the video cannot be read.
            RunError: the model has no maps, or its scores are not finite.
        """
        with self.predictor.open(video) as (recording, path):
            assert isinstance(recording, Video)
            self.predictor.warn_if_unlike(recording, path)
            scores, maps = self.attention_maps(recording, name)
            check_finite(scores, self.run)
            best, id_ = int(scores.argmax()), name or path
            tubes = attention_to_tubes(
                maps, recording.size, video=id_, label=best, score=float(scores[best]), linking=self.linking
            )
            return Localization(id_, self.predictor.labels, scores, maps, tubes, recording.fps)

    def attention_maps(self, recording: Video, name: str | None = None) -> tuple[Float[Tensor, " K"], MapSequence]:
        """Probability of each class, and the map of each frame over the whole frame."""
        scores: list[Tensor] = []

        def clips() -> Iterator[tuple[Tensor, Tensor]]:
            for frames in self._views(self.prepare.usable(recording)):
                view_scores, maps, shown = self._clip_maps(recording, frames, name)
                scores.append(view_scores)
                yield maps, shown

        cells, places = average_over_clips(clips(), len(recording))
        self._warn_if_coarse(cells, recording.size)
        maps = FrameMaps(cells, places, recording.size, self.prepare.takes, self.prepare.view)
        mean = torch.stack(scores).mean(0)
        return calibrated(mean.log(), self.predictor.calibration).exp() if self.predictor.calibration else mean, maps

    def _clip_maps(self, recording: Video, frames: list[int], name: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Probability of each class in one input of the model, its maps, and the frame that each map belongs to."""
        device, takes = self.predictor.device, self.prepare.takes
        inputs = self.prepare.frames(recording, frames, name)
        with torch.inference_mode():
            output = self.predictor.model(**{key: value[None].to(device) for key, value in inputs.items()})
        self.kind = next((key for key in _MAPS if key in output.maps), "")
        if not self.kind:
            raise self._refusal("has neither attention nor class activation")
        maps = output.maps[self.kind]
        middles = slice(takes.frames_per_segment // 2, None, takes.frames_per_segment)
        shown = torch.tensor(frames if maps.shape[1] == len(frames) else frames[middles])
        return output.logits[0].float().softmax(0).cpu(), maps[0].float().clamp(min=0).cpu(), shown

    def _views(self, length: int) -> Iterator[list[int]]:
        """The frame numbers of each input of the model."""
        takes, config = self.prepare.takes, self.prepare.view
        if config.mode == "clips":
            count = takes.segments * takes.frames_per_segment
            starts = covering_starts(length, window_span(count, config.stride))
            return (window_indices([start], count, length, config.stride) for start in starts)
        views, stride = config.clips, config.stride
        return (
            sample_indices(length, takes, config.mode, view=view, views=views, stride=stride) for view in range(views)
        )

    def _warn_if_coarse(self, cells: Float[Tensor, "U h w"], size: tuple[int, int]) -> None:
        rows, columns = cells.shape[1:]
        if min(rows, columns) < COARSEST and not self._warned:
            self._warned = True  # once for all videos
            height, width = size
            warnings.warn(
                f"the maps of this model have only {columns}x{rows} cells for a frame of {width}x{height} pixels: a "
                "box cannot be finer than a cell and may cover most of the frame. Train with a larger model.size (now "
                f"{self.prepare.takes.size}), set view.size in the run's recipe.toml to test on larger crops, or take "
                "a model with finer maps, such as video_lstm",
                MuybridgeWarning,
                stacklevel=4,
            )

    def _refusal(self, problem: str) -> RunError:
        model = self.predictor.recipe.model
        architecture = getattr(model, "architecture", "")
        return RunError(
            f"the model {model.name} {architecture}".rstrip() + f" {problem}",
            expected="a model of videos with attention or class activation: video_lstm with an architecture that has "
            "attention (alstm, conv_alstm, motion_alstm, video_lstm), tsn, tdn or selfy",
            hint="localize with a run of one of these",
            where=self.run,
        )


def covering_starts(frames: int, span: int) -> list[int]:
    """First frames of clips of ``span`` frames that together cover the whole video, most of it twice."""
    room = max(0, frames - span)
    steps = math.ceil(2 * room / span)
    return [round(room * step / max(1, steps)) for step in range(steps + 1)]


def project_to_frame(
    maps: Maps, size: tuple[int, int], takes: ClipInput, view_config: ViewConfig
) -> Float[Tensor, "T rows columns"]:
    """Maps of the center crop as maps of the whole frame, 0 outside; unchanged where the crop is the frame.

    Args:
        maps: of the model's crop.
        size: height and width of the frame in pixels.
        takes: the model's contract.
        view_config: how frames were scaled and cropped.
    """
    side = view_config.size or takes.size
    height, width = view_config.resize or size
    shorter = side if view_config.resize else max(side, view_config.short_side or eval_short_side(side))
    scale = shorter / min(height, width) if not view_config.resize or shorter > min(height, width) else 1.0
    tall, wide = round(height * scale), round(width * scale)
    ((top, left, *_),) = crop_boxes(tall, wide, side, "center")
    if (tall, wide) == (side, side):
        return maps
    # At half the pixels of the model's input, which is finer than any map.
    rows, columns, crop, top, left = (round(length / 2) for length in (tall, wide, side, top, left))
    large = F.interpolate(maps[:, None], size=(crop, crop), mode="bilinear", align_corners=False)[:, 0]
    frame = torch.zeros(len(maps), rows, columns)
    frame[:, top : top + crop, left : left + crop] = large[:, : rows - top, : columns - left]
    return frame
