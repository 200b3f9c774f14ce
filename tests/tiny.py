"""Data sets that train in seconds: three synthetic actions of four people as MSR Action3D, videos of moving light."""

from pathlib import Path
from typing import Any

import av
import numpy as np

from muybridge.recipe import Recipe


def write_recordings(root: Path) -> Path:
    """Actions 1, 2, 3 raise, lower or hold a hand; people 1 and 3 train, 2 and 4 test; four takes each."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    body = rng.normal(size=(20, 3))
    for action in (1, 2, 3):
        for person in (1, 2, 3, 4):
            for take in (1, 2, 3, 4):
                frames = 8 + take
                path = np.repeat(body[None] * (1 + 0.1 * person), frames, axis=0)
                path[:, 12, 1] += np.linspace(0, 1, frames) * (2 - action) * 2
                path += 0.02 * rng.normal(size=path.shape)
                rows = np.concatenate([path, np.ones((frames, 20, 1))], axis=2).reshape(-1, 4)
                name = f"a{action:02d}_s{person:02d}_e{take:02d}_skeleton3D.txt"
                np.savetxt(root / name, rows, fmt="%.6f")
    return root


def tiny_recipe(root: Path, **train: Any) -> Recipe:
    """A small STA-LSTM on these recordings."""
    return Recipe.model_validate(
        {
            "title": "tiny",
            "model": {
                "name": "sta_lstm",
                "hidden": 8,
                "layers": 1,
                "attention_size": 8,
                "dropout": 0.0,
                "lambda_weights": 1e-5,
                "rescale_attention": True,
                "init_std": 0.3,
            },
            "data": {"name": "msr_action3d", "root": str(root), "files": "567"},
            "augment": {"skeleton": {"rotate": 10.0, "noise": 0.01}},
            "train": {
                "epochs": 3,
                "batch_size": 5,
                "save_seconds": 0.0,
                "precision": "32-true",
                "optimizer": {"name": "adamw", "lr": 0.01},
            }
            | train,
        }
    )


def write_videos(root: Path, people: str = "abcd", takes: int = 2) -> Path:
    """Light that grows in ``dawn`` and fades in ``dusk``, 12 frames of 48x40 pixels, as ``class/person_take.mp4``."""
    rng = np.random.default_rng(0)
    for label, way in (("dawn", 1), ("dusk", -1)):
        (root / label).mkdir(parents=True, exist_ok=True)
        for person in people:
            for take in range(takes):
                ramp = np.linspace(40, 200, 12)[::way] + rng.normal(0, 10)
                with av.open(str(root / label / f"{person}_{take}.mp4"), "w") as container:
                    stream = container.add_stream("libx264", rate=12, options={"g": "4"})
                    stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
                    stream.codec_context.thread_count = 1
                    for light in ramp:
                        picture = np.clip(light + rng.normal(0, 5, (40, 48, 3)), 0, 255).astype(np.uint8)
                        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    container.mux(stream.encode(None))
    return root


def tiny_clip_recipe(root: Path, **train: Any) -> Recipe:
    """A small TSM on these videos; person d tests."""
    return Recipe.model_validate(
        {
            "title": "tiny",
            "model": {
                "name": "tsn",
                "backbone": "resnet10",
                "width": 8,
                "shift": True,
                "segments": 4,
                "size": 32,
                "dropout": 0.0,
            },
            "data": {
                "name": "video_folder",
                "root": str(root),
                "group": "/([a-z])_",
                "test_groups": ["d"],
                "val_fraction": 0.0,
            },
            "augment": {"clip": {"flip": 0.5, "temporal_crop": 0.8}},
            "train": {
                "epochs": 2,
                "batch_size": 5,
                "save_seconds": 0.0,
                "precision": "32-true",
                "optimizer": {"name": "adamw", "lr": 1e-3},
            }
            | train,
        }
    )
