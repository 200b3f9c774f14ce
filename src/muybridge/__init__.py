"""muybridge: recognise actions by their motion, in video and in skeletons."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muybridge.predict import Predictor, Reject

__version__ = "0.1.0"


def load(run: str | Path, device: str = "auto", *, reject: "Reject" = None) -> "Predictor":
    """A trained run as a predictor: ``muybridge.load("runs/mine")("recording.npz")``.

    Args:
        run: a run folder; an ONNX file that `muybridge export` made of one; or the address of a run on the Hugging
            Face hub, ``hf://user/name`` or ``hf://user/name@revision``, which is kept in the hub's local cache.
        device: where the model computes: "cpu", "cuda", or "auto" for the GPU where there is one.
        reject: the probability below which a prediction is ``rejected``, as none of the classes; "auto" is the
            threshold that `muybridge test RUN --calibrate` chose.

    Raises:
        RunError: no such run, not trained, damaged, or made by a newer version; "auto" of a run without a threshold; or
            the hub cannot be reached.
        MissingExtraError: an ONNX file, and ONNX Runtime is not installed.
    """
    if Path(run).suffix.lower() == ".onnx":
        from muybridge.export import OnnxPredictor

        return OnnxPredictor(run, device, reject=reject)
    from muybridge.core.hub import is_hub_address
    from muybridge.predict import Predictor  # torch takes seconds to import; `import muybridge` does not

    if is_hub_address(run):
        from muybridge.hub import fetch

        run = fetch(run)
    return Predictor(run, device, reject=reject)
