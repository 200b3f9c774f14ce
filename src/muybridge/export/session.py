"""ONNX Runtime as a model: the same inputs and outputs as the network that was exported."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muybridge.core.errors import RecipeError, RunError
from muybridge.core.extras import check_extra, import_extra
from muybridge.core.types import Output
from muybridge.models.base import Model


def import_onnx(module: str) -> Any:
    """A module of the extra ``export``; raises MissingExtraError if it is not installed."""
    return import_extra(module, "export", "ONNX files")


def check_onnx() -> None:
    """Raise MissingExtraError unless everything that writing an ONNX file needs is installed."""
    check_extra("export", "onnx", "onnxruntime", "onnxscript", purpose="ONNX files")


def open_session(path: Path, device: str = "cpu") -> Any:
    """An ``onnxruntime.InferenceSession`` with as many threads as torch uses.

    Args:
        path: an ONNX file.
        device: "cpu", "cuda", or "auto" for the GPU if the installed ONNX Runtime has one.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        RunError: no such file, or one that ONNX Runtime cannot load.
        RecipeError: "cuda", and the installed ONNX Runtime computes on the CPU alone.
    """
    runtime = import_onnx("onnxruntime")
    if not path.is_file():
        raise RunError(
            "no such file",
            expected="an ONNX file",
            hint="write one with `muybridge export RUN --out FILE`",
            where=path,
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return runtime.InferenceSession(str(path), options, providers=_providers(runtime, device))
    except RecipeError:
        raise
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises many kinds for a damaged file
        raise RunError(
            f"ONNX Runtime cannot load it ({str(error).splitlines()[0]})",
            expected="a complete file of `muybridge export`",
            hint="copy the file again, or export the run again",
            where=path,
        ) from None


def _providers(runtime: Any, device: str) -> list[str]:
    has_gpu = "CUDAExecutionProvider" in runtime.get_available_providers()
    if device == "cuda" and not has_gpu:
        raise RecipeError(
            "--device cuda, and the installed ONNX Runtime computes on the CPU alone",
            expected="ONNX Runtime for GPUs",
            hint="use --device cpu, or install onnxruntime-gpu in place of onnxruntime",
        )
    return (["CUDAExecutionProvider"] if has_gpu and device != "cpu" else []) + ["CPUExecutionProvider"]


class OnnxModel(Model):
    """A session of ONNX Runtime, called as the network that was exported; without parameters of its own.

    Args:
        session: its first output is ``logits``, the others are the maps.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session
        self.input_names = [value.name for value in session.get_inputs()]
        _, *self.map_names = (value.name for value in session.get_outputs())

    def forward(self, **inputs: Tensor) -> Output:
        """Class scores and maps; inputs that the network did not use are not in the file."""
        arrays = {name: inputs[name].numpy(force=True) for name in self.input_names}
        logits, *maps = (torch.from_numpy(array) for array in self.session.run(None, arrays))
        return Output(logits, dict(zip(self.map_names, maps, strict=True)))
