"""Optional packages: imported where they are used, and a missing one names the extra that installs it."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from muybridge.core.errors import MissingExtraError

_TITLES = {"cv2": "OpenCV", "ray": "Ray"}
"""What packages are called where their name says less."""


def import_extra(module: str, extra: str, purpose: str, *, otherwise: str = "") -> Any:
    """A module of an optional package.

    Args:
        module: its name, such as "cv2" or "onnxruntime.quantization".
        extra: of muybridge, which installs it.
        purpose: what it is needed for, after "for".
        otherwise: what can be done without it, after "or".

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise _missing(module.partition(".")[0], extra, purpose, otherwise) from None


def check_extra(extra: str, *packages: str, purpose: str, otherwise: str = "") -> None:
    """Raise MissingExtraError unless all packages of an extra are installed; none is imported.

    Args:
        extra, purpose, otherwise: see :func:`import_extra`.
        packages: the names by which they are imported.
    """
    for package in packages:
        if find_spec(package) is None:
            raise _missing(package, extra, purpose, otherwise)


def _missing(package: str, extra: str, purpose: str, otherwise: str) -> MissingExtraError:
    title = _TITLES.get(package, package)
    return MissingExtraError(
        f"{title} is not installed",
        expected=f"{title}, for {purpose}",
        hint=f"run pip install 'muybridge[{extra}]'" + (f", or {otherwise}" if otherwise else ""),
    )
