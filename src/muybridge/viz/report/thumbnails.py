"""A small picture of a recording: the middle frame of a video, the middle pose of a skeleton."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig
from muybridge.data.skeleton_ops import fill_absent
from muybridge.media.video import Video
from muybridge.viz.style import COLORS

_HEIGHT = 120


def thumbnail(data: DatasetConfig, record: Record) -> str:
    """An HTML picture of a recording; empty where it cannot be read."""
    try:
        recording = data.open(record)
        if isinstance(recording, SkeletonSequence):
            holds = data.holds()
            assert isinstance(holds, SkeletonData)
            return _pose(fill_absent(recording), holds, record.id)
        assert isinstance(recording, Video)
        with recording:
            return _frame(recording, record.id)
    except DataError:
        return ""


def _frame(video: Video, name: str) -> str:
    pixels = video.read([len(video) // 2], _HEIGHT).pixels[0].permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "JPEG", quality=75)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="middle frame of {escape(name)}" src="data:image/jpeg;base64,{data}">'


def _pose(sequence: SkeletonSequence, holds: SkeletonData, name: str) -> str:
    """Bones of the middle frame as lines, seen along z; joints as dots where the bones are not known."""
    frame = len(sequence) // 2
    people = np.flatnonzero(sequence.present[frame].numpy())
    joints = sequence.joints[frame, :, :, :2].numpy() * [1, -1 if holds.coordinates == 3 else 1]
    seen = joints[people].reshape(-1, 2)
    if not len(seen) or not np.isfinite(seen).all():
        return ""
    low, size = seen.min(0), float(np.ptp(seen, axis=0).max()) or 1.0
    places = 4 + 92 * (joints - low) / size
    lines = "".join(
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="{COLORS[person % 8]}"/>'
        for person in people.tolist()
        for a, b in ((places[person, start], places[person, end]) for start, end in holds.layout.bones)
    )
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{COLORS[person % 8]}"/>'
        for person in people.tolist()
        for x, y in places[person]
    )
    width, height = (92 * np.ptp(seen, axis=0) / size + 8).tolist()
    return (
        f'<svg role="img" aria-label="middle pose of {escape(name)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="width:100%;height:8rem" stroke-width="1.6" stroke-linecap="round">{lines}{dots}</svg>'
    )
