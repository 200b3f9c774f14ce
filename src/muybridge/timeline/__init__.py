"""When actions happen in a long recording: sliding windows, and segments with start and end."""

from muybridge.timeline.formats import FORMATS, check_format, read_segments, write_timelines
from muybridge.timeline.scores import SegmentScores, score_segments
from muybridge.timeline.segments import Segment, find_segments
from muybridge.timeline.timeline import Timeline, TimelineConfig, TimelinePredictor

__all__ = [
    "FORMATS",
    "Segment",
    "SegmentScores",
    "Timeline",
    "TimelineConfig",
    "TimelinePredictor",
    "check_format",
    "find_segments",
    "read_segments",
    "score_segments",
    "write_timelines",
]
