"""The descriptors of a clip, of blocks on a grid or of trajectories, with where they are from.

Legend: B clips, T frames, C channels, H and W pixels, N blocks, or the most trajectories of a clip.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.nn.camera_motion import estimate_homography
from muybridge.nn.local_descriptors import block_positions, descriptors
from muybridge.nn.trajectories import DenseTracker, Trajectories, camera_flow


class LocalFeatures(NamedTuple):
    """Descriptors of the blocks or trajectories of each clip.

    Attributes:
        descriptors: by kind, in the order of ``descriptor_sizes`` of the config.
        positions: time, row and column of their centers in the clip, each -1 to 1; the same in every clip, or not.
        present: which of them there are; None means all.
    """

    descriptors: list[Float[Tensor, "B N _"]]
    positions: Float[Tensor, "N 3"] | Float[Tensor, "B N 3"]
    present: Bool[Tensor, "B N"] | None

    def of_clip(self, clip: int) -> list[Tensor]:
        """The descriptors of a clip by kind, then their positions."""
        if self.present is None:
            return [*(values[clip] for values in self.descriptors), self.positions]
        rows = self.present[clip]
        return [values[clip, rows] for values in (*self.descriptors, self.positions)]


def local_features(
    video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"], config: FisherVectorsConfig
) -> LocalFeatures:
    """The descriptors of a batch of clips."""
    if config.sampling == "trajectories":
        return _of_trajectories(video.mean(2), flow * config.flow_bound, config)
    cell = config.cell_frames, config.cell_size, config.cell_size
    positions = block_positions(config.frames, config.size, cell).to(video.device)
    return LocalFeatures(descriptors(video, flow, cell), positions, None)


def _of_trajectories(
    frames: Float[Tensor, "B T H W"], flow: Float[Tensor, "B T 2 H W"], config: FisherVectorsConfig
) -> LocalFeatures:
    """The last frame is the last point of trajectories; nothing is known of the flow from it."""
    clips, number, height, width = frames.shape
    tracker = DenseTracker((height, width), config.trajectories, clips, frames.device)
    parts: list[Trajectories] = []
    for time in range(number - 1):
        camera = _camera(frames[:, time : time + 2], flow[:, time]) if config.compensate_camera else None
        parts.append(tracker.push(frames[:, time], flow[:, time], camera))
    found = Trajectories.concatenate(parts)
    found = found.select(found.clip.argsort(stable=True))
    counts = found.clip.bincount(minlength=clips)
    middle = (found.end - config.trajectories.steps / 2)[:, None]
    x, y = found.points.mean(1).split(1, dim=1)
    extent = torch.tensor([number - 1, height - 1, width - 1], device=frames.device)
    positions = torch.cat([middle, y, x], dim=1) / extent.clamp(min=1) * 2 - 1
    present = torch.arange(int(counts.max()), device=frames.device) < counts[:, None]
    padded = [
        pad_sequence(list(values.split(counts.tolist())), batch_first=True)
        for values in (*found.descriptors(), positions)
    ]
    return LocalFeatures(padded[:-1], padded[-1], present)


def _camera(frames: Float[Tensor, "B 2 H W"], flow: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 2 H W"]:
    """The part of the flow that is due to the camera, of each clip."""
    low, high = frames.amin((1, 2, 3), keepdim=True), frames.amax((1, 2, 3), keepdim=True)
    images = ((frames - low) / (high - low).clamp(min=1e-6) * 255).round().byte().cpu().numpy()
    height, width = frames.shape[2:]
    parts = [
        camera_flow(estimate_homography(before, after, field), height, width)
        for (before, after), field in zip(images, flow.cpu().numpy(), strict=True)
    ]
    return torch.stack(parts).to(flow)
