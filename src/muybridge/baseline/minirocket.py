"""MiniROCKET on joint series, by aeon, which is an extra (``muybridge[baseline]``)."""

from importlib.util import find_spec

import numpy as np
from jaxtyping import Float32


def has_minirocket() -> bool:
    """Whether aeon is installed."""
    return find_spec("aeon") is not None


def minirocket_features(series: Float32[np.ndarray, "N F T"], training: int) -> Float32[np.ndarray, "N D"]:
    """Features of about 10,000 random convolutions, their biases fitted on the first ``training`` series.

    Source: Dempster, Schmidt, Webb, MiniRocket, KDD 2021.
    """
    from aeon.transformations.collection.convolution_based import MiniRocket  # pyright: ignore[reportMissingImports]

    transform = MiniRocket(random_state=0).fit(series[:training])
    return np.asarray(transform.transform(series), dtype=np.float32)
