"""A data set of a few seconds' training: three made-up actions of four people, in the format of MSR Action3D."""

from pathlib import Path
from typing import Any

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
                "alpha_scale": True,
                "init_std": 0.3,
            },
            "data": {"name": "msr_action3d", "root": str(root), "files": "567"},
            "augment": {"skeleton": {"rotate": 10.0, "noise": 0.01}},
            "train": {"epochs": 3, "batch_size": 5, "save_seconds": 0.0, "optimizer": {"name": "adam", "lr": 0.01}}
            | train,
        }
    )
