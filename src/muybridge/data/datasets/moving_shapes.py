"""Moving shapes: a generated video benchmark whose classes differ in motion only.

Legend: T frames.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from muybridge.core.contracts import ClipData
from muybridge.core.files import cache_folder
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Index, Split, swap_map
from muybridge.media.synthetic.moving_shapes import MIRRORED, MOTIONS, REVERSED, SceneConfig
from muybridge.media.synthetic.videos import VERSION, boxes_path, write_videos
from muybridge.media.video import Video


class MovingShapes(DatasetConfig):
    """Twelve motions of a shape before a drifting background; the last scenes test, the others train.

    Groups are scenes, ``s001`` and so on; each has one shape and one background, which appear in every class.

    Attributes:
        root: where the videos are written on first use; by default a folder in the user's cache.
        scenes: how many there are.
        test_scenes: how many of them are the test part.
        repetitions: videos of each class in each scene.
        height, width: of the frames in pixels.
        frames: of each video, at 16 frames per second.
        distractors: other shapes, which move behind the shape independently of the class.
        perturbation: strength of camera jitter, background drift and changes of light; 0 turns them off.
        seed: another seed gives other scenes and videos.
        channels: 3, or 1 to read brightness alone.
        radius: smallest and largest radius of the shape, as shares of the shorter side of the frame.
        spread: radius of the disc over which its center is uniformly distributed, likewise. A small shape far from the
            center is hard to localize: ``distractors = 3, radius = [0.09, 0.14], spread = 0.33``.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("channels",)
    name: Literal["moving_shapes"] = "moving_shapes"
    root: Path | None = None
    scenes: int = Field(default=60, ge=2, le=999)
    test_scenes: int = Field(default=20, ge=1)
    repetitions: int = Field(default=1, ge=1, le=99)
    height: int = Field(default=112, ge=32, le=1024, multiple_of=2)
    width: int = Field(default=112, ge=32, le=1024, multiple_of=2)
    frames: int = Field(default=32, ge=8, le=1024)
    distractors: int = Field(default=1, ge=0, le=3)
    perturbation: float = Field(default=1.0, ge=0.0, le=2.0)
    seed: int = Field(default=0, ge=0)
    channels: Literal[1, 3] = 3
    radius: tuple[PositiveFloat, PositiveFloat] = (0.12, 0.25)
    spread: float = Field(default=0.27, gt=0.0, le=0.4)

    @model_validator(mode="after")
    def _training_scenes_remain(self) -> Self:
        if self.test_scenes >= self.scenes:
            raise ValueError(f"test_scenes = {self.test_scenes} of {self.scenes} scenes leaves none for training")
        if not self.radius[0] <= self.radius[1] <= 0.5:
            raise ValueError(f"radius needs the smaller number first and at most 0.5, and is {list(self.radius)}")
        return self

    def resolved(self) -> Self:
        """With an absolute root, where one is given."""
        return self.model_copy(update={"root": self.root.expanduser().resolve()}) if self.root else self

    def labels(self) -> tuple[str, ...]:
        """The motions."""
        return MOTIONS

    def holds(self) -> ClipData:
        """RGB videos, or gray ones."""
        return ClipData(self.channels)

    def mirror(self) -> Mapping[int, int]:
        """Left and right are exchanged, and so are the two directions of rotation."""
        return swap_map(MOTIONS, MIRRORED)

    def reverse(self) -> Mapping[int, int]:
        """Five motions are five others reversed in time; bouncing and shaking do not change."""
        return swap_map(MOTIONS, REVERSED.items())

    def generate(self, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> None:
        """Writes the videos of all splits where they do not exist; see :meth:`DatasetConfig.generate`.

        Raises:
            DataError: the folder cannot be written.
        """
        self._videos(progress, workers)

    def index(self, split: Split) -> Index:
        """The videos of one split; writes those that do not exist."""
        records = []
        for path in self._videos():
            motion = path.parent.name
            records.append(Record(f"{motion}/{path.stem}", path, _LABELS[motion], path.stem[:4]))
        first_test = self.scenes - self.test_scenes + 1
        return self.split_records(split, records, is_test=lambda record: int(record.group[1:]) >= first_test)

    def _videos(self, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> list[Path]:
        return write_videos(self.folder(), self.scene_config(), self.scenes, self.repetitions, progress, workers)

    def scene_config(self) -> SceneConfig:
        """What all videos have in common."""
        return SceneConfig(
            self.height,
            self.width,
            self.frames,
            self.distractors,
            self.perturbation,
            self.seed,
            self.radius,
            self.spread,
        )

    def folder(self) -> Path:
        """Where the videos are; each seed and configuration has its own."""
        root = self.root.expanduser() if self.root else cache_folder("moving_shapes")
        kind = (
            f"{self.height}x{self.width}x{self.frames}-distractors{self.distractors}-perturbation{self.perturbation:g}"
        )
        if (self.radius, self.spread) != (SceneConfig().actor, SceneConfig().spread):
            kind += f"-radius{self.radius[0]:g}to{self.radius[1]:g}-spread{self.spread:g}"
        return root / f"v{VERSION}-seed{self.seed}-{kind}"

    def open(self, record: Record) -> Video:
        """The video of a record.

        Raises:
            DataError: the file is missing or damaged.
        """
        return Video(record.path, channels=self.channels, span=record.span)

    def boxes(self, record: Record) -> Float32[Tensor, "T 4"]:
        """The true box around the visible part of the shape in each frame: x0, y0, x1, y1 in pixels."""
        with np.load(boxes_path(record.path)) as file:
            return torch.from_numpy(file["boxes"])


_LABELS = {motion.replace(" ", "_"): index for index, motion in enumerate(MOTIONS)}
