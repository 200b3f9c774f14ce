"""Ask a trained run where in a video the action is that it recognises.

Legend: T frames of a video, S steps of a clip, h and w cells of a map, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.errors import RunError
from muybridge.core.tubes import Tube, TubeSet
from muybridge.data.clip_ops import crop_boxes, eval_short_side
from muybridge.data.prepare import ClipPreparation, ViewConfig
from muybridge.data.sampling import sample_indices, window_indices, window_span
from muybridge.localize.linking import LINKING, Linking, Maps, attention_to_tubes, average_over_clips
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Predictor

_POINTING = ("attention", "class_activation")
"""The maps that say where a model looked, the better first."""


@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """What a run sees in one video, and where.

    Attributes:
        id: the record id, or the path that was asked about.
        labels: class names in label order.
        scores: probability of each class, ``K``.
        maps: where it looked, for each frame, over the whole frame.
        tubes: around what it looked at, in pixels of the file; best first.
        fps: frames a second.
    """

    id: str
    labels: tuple[str, ...]
    scores: Float[Tensor, " K"]
    maps: Maps
    tubes: list[Tube]
    fps: float

    @property
    def label(self) -> int:
        """The recognised class."""
        return int(self.scores.argmax())

    def tube_set(self) -> TubeSet:
        """The tubes as :func:`muybridge.media.tubes.write_tubes` takes them."""
        return TubeSet(self.labels, tuple(self.tubes), {self.id: len(self.maps)}, {self.id: self.fps})


class Localizer:
    """A trained run, ready to say where the action is.

    Models with attention (VideoLSTM and its relatives) point with that; those over segments (TSN, TSM, TDN, SELFY) with
    class activation, which knows little of time. A model of clips sees the video in clips that overlap by half and
    reach over all of it; a video shorter than a clip is one clip, whose last frame stands still. Models over segments
    see what testing shows them. Frames that are not seen take the map of the nearest that is.

    Args:
        run: a run folder.
        device: where the model computes.
        linking: how maps become tubes.

    Raises:
        RunError: no such run, not trained, damaged, or of a model of skeletons.
    """

    def __init__(self, run: str | Path, device: str | torch.device = "cpu", linking: Linking = LINKING) -> None:
        self.run = Path(run)
        self.predictor = Predictor(run, device)
        self.linking = linking
        if not isinstance(self.predictor.prepare, ClipPreparation):
            raise self._refusal("takes skeletons, which are all there is of where somebody is")
        self.prepare = self.predictor.prepare
        model = self.predictor.model
        assert isinstance(model, Model)
        model.return_maps = True

    def __call__(self, what: str | Path | Video, name: str | None = None) -> Localization:
        """Recognise the action in a video and say where it is.

        Args:
            what: a video file, a folder of frames, or a :class:`Video`, which stays open.
            name: record id, by which stored flow is found; otherwise flow is computed.

        Raises:
            DataError: the video cannot be read.
            RunError: the model does not say where it looks.
        """
        if isinstance(what, Video):
            return self._locate(what, name or str(what.path), name)
        recording = self.predictor.read(Path(what))
        assert isinstance(recording, Video)
        with recording:
            return self._locate(recording, name or str(what), name)

    def attention_maps(self, recording: Video, name: str | None = None) -> tuple[Float[Tensor, " K"], Maps]:
        """Probability of each class, and where the model looked, for each frame and over the whole frame."""
        device, takes = self.predictor.device, self.prepare.takes
        chances, maps, shown = [], [], []
        for numbers in self._views(self.prepare.usable(recording)):
            inputs = self.prepare.frames(recording, numbers, name)
            with torch.inference_mode():
                output = self.predictor.model(**{key: one[None].to(device) for key, one in inputs.items()})
            pointing = next((output.maps[key] for key in _POINTING if key in output.maps), None)
            if pointing is None:
                raise self._refusal("does not say where it looks")
            middles = slice(takes.frames_per_segment // 2, None, takes.frames_per_segment)
            shown.append(torch.tensor(numbers if pointing.shape[1] == len(numbers) else numbers[middles]))
            maps.append(pointing[0].float().clamp(min=0).cpu())
            chances.append(output.logits[0].float().softmax(0).cpu())
        averaged = average_over_clips(torch.stack(maps), torch.stack(shown), len(recording))
        return torch.stack(chances).mean(0), project_to_frame(averaged, recording.size, takes, self.prepare.view)

    def _locate(self, recording: Video, id_: str, name: str | None) -> Localization:
        scores, maps = self.attention_maps(recording, name)
        best = int(scores.argmax())
        tubes = attention_to_tubes(
            maps, recording.size, video=id_, label=best, score=float(scores[best]), linking=self.linking
        )
        return Localization(id_, self.predictor.labels, scores, maps, tubes, recording.fps)

    def _views(self, length: int) -> Iterator[list[int]]:
        """The moments of each input of the model."""
        takes, view_config = self.prepare.takes, self.prepare.view
        if view_config.mode == "clips":
            count = takes.segments * takes.frames_per_segment
            starts = covering_starts(length, window_span(count, view_config.stride))
            return (window_indices([start], count, length, view_config.stride) for start in starts)
        views, stride = view_config.clips, view_config.stride
        return (
            sample_indices(length, takes, view_config.mode, view=view, views=views, stride=stride)
            for view in range(views)
        )

    def _refusal(self, came: str) -> RunError:
        model = self.predictor.recipe.model
        architecture = getattr(model, "architecture", "")
        return RunError(
            f"the model {model.name} {architecture}".rstrip() + f" {came}",
            expected="a model of videos with attention or class activation: video_lstm with an architecture that "
            "attends (alstm, conv_alstm, motion_alstm, video_lstm), tsn, tdn or selfy",
            hint="localise with a run of one of these",
        )


def covering_starts(frames: int, span: int) -> list[int]:
    """Where clips of ``span`` frames start that together reach over the whole video, over most of it twice."""
    room = max(0, frames - span)
    steps = math.ceil(2 * room / span)
    return [round(room * step / max(1, steps)) for step in range(steps + 1)]


def project_to_frame(
    maps: Maps, size: tuple[int, int], takes: ClipInput, view_config: ViewConfig
) -> Float[Tensor, "T rows columns"]:
    """Maps of the center crop as maps of the whole frame, 0 outside; as they are where the crop is the frame.

    Args:
        maps: of what the model saw.
        size: height and width of the frame in pixels.
        takes: the model's contract.
        view_config: how frames were brought to size.
    """
    side = view_config.size or takes.size
    height, width = view_config.resize or size
    least = side if view_config.resize else max(side, view_config.short_side or eval_short_side(side))
    scale = least / min(height, width) if not view_config.resize or least > min(height, width) else 1.0
    tall, wide = round(height * scale), round(width * scale)
    ((top, left, *_),) = crop_boxes(tall, wide, side, "center")
    if (tall, wide) == (side, side):
        return maps
    # At half the pixels of the model's input, which is finer than any map.
    rows, columns, seen, top, left = (round(one / 2) for one in (tall, wide, side, top, left))
    large = F.interpolate(maps[:, None], size=(seen, seen), mode="bilinear", align_corners=False)[:, 0]
    whole = torch.zeros(len(maps), rows, columns)
    whole[:, top : top + seen, left : left + seen] = large[:, : rows - top, : columns - left]
    return whole
