"""Shape checks on every tensor-bearing package, and where the real recordings are."""

import os
from collections import Counter
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

MODELS = Path(__file__).parents[1] / "src" / "muybridge" / "models"
# The configs in each package's __init__ have no tensors, and import their networks only in `build`.
NETWORKS = [
    "muybridge.models.base",
    "muybridge.models.clips",
    *(f"muybridge.models.{file.parent.name}.{file.stem}" for file in MODELS.glob("*/*.py") if file.stem != "__init__"),
]

# Every jaxtyping annotation of these packages is checked at run time while the tests run.
_HOOK = install_import_hook(
    [
        "muybridge.core.tubes",
        "muybridge.core.types",
        "muybridge.data.clip_ops",
        "muybridge.data.feature_store",
        "muybridge.data.prepare",
        "muybridge.data.skeleton_ops",
        "muybridge.engine.video_ap",
        "muybridge.localize",
        "muybridge.media",
        *NETWORKS,
        "muybridge.nn",
        "muybridge.viz",
    ],
    "beartype.beartype",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first, so that none of them is what all other processes wait for at the end."""
    weights = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip where there is none."""
    root = os.environ.get("MUYBRIDGE_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("MUYBRIDGE_DATA does not point at the real recordings")
    return Path(root)
