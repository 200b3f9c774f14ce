"""Weights on disk: safetensors with a checksum; nothing is unpickled."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from muybridge.core.errors import RunError


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file.

    Attributes:
        tensors: parameters and buffers by name.
        labels: class names in label order of the model; None where the file does not say.
    """

    tensors: dict[str, Tensor]
    labels: tuple[str, ...] | None = None


def save_weights(model: nn.Module, labels: tuple[str, ...], path: Path) -> None:
    """Write a model's parameters and buffers with their checksum and the class names.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # One entry, as safetensors writes several in a random order and equal weights are to give equal files.
    facts = json.dumps({"checksum": checksum(tensors), "labels": labels}, sort_keys=True)
    try:
        safetensors.torch.save_file(tensors, path, metadata={"muybridge": facts})
    except safetensors.SafetensorError as error:  # its own error, where the disk is full
        raise OSError(str(error)) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, without unpickling; RunError if it is damaged."""
    return read_weights_file(path).tensors


def read_weights_file(path: Path) -> WeightsFile:
    """The tensors of a weights file and its class names, without unpickling; RunError if it is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            facts = json.loads((file.metadata() or {}).get("muybridge", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise RunError(
            f"damaged weights file ({error})",
            expected="a complete safetensors file",
            hint="restore the file or train again",
            where=path,
        ) from None
    if facts.get("checksum", checksum(tensors)) != checksum(tensors):
        raise RunError(
            "damaged weights file (checksum differs)",
            expected="the bytes that were written",
            hint="restore the file or train again",
            where=path,
        )
    return WeightsFile(tensors, tuple(facts["labels"]) if "labels" in facts else None)


def stored_checksum(path: Path) -> str:
    """The checksum that a weights file says it has, without reading the weights; empty where it has none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get("muybridge", "{}")).get("checksum", "")
    except (safetensors.SafetensorError, OSError, ValueError):
        return ""  # reading the weights says what is wrong with them


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load tensors into a model.

    Raises:
        RunError: a tensor is missing, unknown, of another shape, or holds integers for floating-point numbers or the
            reverse; the message names them.
    """
    own = model.state_dict()
    wrong = [f"{key} missing" for key in own.keys() - tensors.keys()]
    wrong += [f"{key} unknown" for key in tensors.keys() - own.keys()]
    for key in own.keys() & tensors.keys():
        stored, needed = tensors[key], own[key]
        if stored.shape != needed.shape:
            wrong.append(f"{key} is {tuple(stored.shape)}, not {tuple(needed.shape)}")
        elif stored.is_floating_point() != needed.is_floating_point():
            wrong.append(f"{key} is {_dtype(stored)}, not {_dtype(needed)}")
    if wrong:
        raise RunError(
            f"weights of another model: {', '.join(sorted(wrong)[:4])}" + (" ..." if len(wrong) > 4 else ""),
            expected="the parameters of the model in recipe.toml",
            hint="use the weights that belong to this recipe",
            where=where,
        )
    model.load_state_dict(dict(tensors))


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and bytes of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
