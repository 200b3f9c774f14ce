"""When actions happen: segments of long recordings from sliding windows, and answers while a recording goes on."""

from muybridge.timeline.feed import answer_in_order, watch
from muybridge.timeline.formats import FORMATS, check_format, read_segments, write_timelines
from muybridge.timeline.live import LiveAnswer, LivePredictor
from muybridge.timeline.people import PeopleTimelines
from muybridge.timeline.scores import SegmentScores, score_segments
from muybridge.timeline.segments import Segment, find_segments
from muybridge.timeline.timeline import Timeline, TimelineConfig, TimelinePredictor

__all__ = [
    "FORMATS",
    "LiveAnswer",
    "LivePredictor",
    "PeopleTimelines",
    "Segment",
    "SegmentScores",
    "Timeline",
    "TimelineConfig",
    "TimelinePredictor",
    "answer_in_order",
    "check_format",
    "find_segments",
    "read_segments",
    "score_segments",
    "watch",
    "write_timelines",
]
