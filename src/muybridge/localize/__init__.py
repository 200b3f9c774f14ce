"""Where an action takes place, by a network that was trained without boxes: from a run and a video to tubes.

``linking`` turns maps of attention into tubes, ``locate`` applies a run to a video, ``benchmark`` scores a data set.
"""

from muybridge.localize.benchmark import LocalizationBenchmark, benchmark
from muybridge.localize.linking import LINKING, Linking, attention_to_tubes
from muybridge.localize.locate import FrameMaps, Localization, Localizer

__all__ = [
    "LINKING",
    "FrameMaps",
    "Linking",
    "Localization",
    "LocalizationBenchmark",
    "Localizer",
    "attention_to_tubes",
    "benchmark",
]
