"""Where an action takes place, by a network that never saw a box: from a run and a video to tubes.

``linking`` turns maps of attention into tubes, ``locate`` asks a run about a video, ``benchmark`` scores a data set.
"""

from muybridge.localize.benchmark import LocalizationBenchmark, benchmark
from muybridge.localize.linking import LINKING, Linking, attention_to_tubes
from muybridge.localize.locate import Localization, Localizer

__all__ = [
    "LINKING",
    "Linking",
    "Localization",
    "LocalizationBenchmark",
    "Localizer",
    "attention_to_tubes",
    "benchmark",
]
