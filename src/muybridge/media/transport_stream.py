"""Lost and cut packets of MPEG transport streams, known from the counters in their headers (ISO/IEC 13818-1, 2.4.3).

FFmpeg marks the frames after most of the jumps of these counters, not after all.

Legend: N bytes of a file, P packets.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from muybridge.core.packed import PackedPath

_SYNC = 0x47
_STRIDES = (188, 192, 204)  # plain, with a time stamp before each packet (m2ts), with a checksum behind each
_BODY = 188
_CHUNK = 1 << 16  # packets
_CONFIRM = 4  # packets in a row that start with the sync byte


def find_gaps(path: Path, pid: int) -> tuple[list[int], bool]:
    """Where data of one stream is missing.

    Args:
        path: a transport stream that is not empty.
        pid: identifier of the packets of the stream.

    Returns:
        Rising offsets in bytes, of the first packet after each loss and of packets that are damaged themselves; and
        whether the file ends within a packet.
    """
    if isinstance(path, PackedPath):
        file, offset = path.on_disk()
        data = np.memmap(file, np.uint8, "r", offset, (path.length,))
    else:
        data = np.memmap(path, np.uint8, "r")
    offsets: set[int] = set()
    counter: int | None = None
    at, stride = _next_packet(data, 0)
    while stride and len(data) - at >= _BODY:
        count = min(_CHUNK, (len(data) - at - _BODY) // stride + 1)
        starts = at + stride * np.arange(count, dtype=np.int64)
        broken = np.flatnonzero(data[starts] != _SYNC)
        starts = starts[: broken[0]] if len(broken) else starts
        pids = (data[starts + 1].astype(np.int64) & 31) << 8 | data[starts + 2]
        jumps, counter = _jumps(data, starts[pids == pid], counter)
        offsets.update(jumps.tolist())
        at += stride * len(starts)
        if len(broken):
            if pids[-1] == pid:  # the bytes that are missing are its own
                offsets.add(int(starts[-1]))
            at, stride = _next_packet(data, at)
    is_cut = bool(stride and 0 < len(data) - at < _BODY and data[at] == _SYNC)
    return sorted(offsets), is_cut


def _next_packet(data: UInt8[np.ndarray, " N"], begin: int) -> tuple[int, int]:
    """Offset of the first packet from ``begin`` on, and bytes from one packet to the next; 0 where there is none."""
    window = data[begin : begin + (1 << 20)]
    for offset in np.flatnonzero(window == _SYNC).tolist():
        for stride in _STRIDES:
            syncs = window[offset : offset + _CONFIRM * stride : stride]
            if len(syncs) > 1 and (syncs == _SYNC).all():
                return begin + offset, stride
    return begin, 0


def _jumps(
    data: UInt8[np.ndarray, " N"], starts: Int64[np.ndarray, " P"], counter: int | None
) -> tuple[Int64[np.ndarray, " _"], int | None]:
    """Offsets of the packets before which some are missing, or that are marked as damaged; and the last counter.

    The counter rises by 1, modulo 16, with each packet with a payload. A packet may be sent twice, and a stream may
    announce that its counter starts anew.
    """
    if not len(starts):
        return starts, counter
    control = data[starts + 3]
    counters = (control & 15).astype(np.int64)
    previous = np.concatenate([[counters[0] - 1 if counter is None else counter], counters[:-1]])
    has_payload, has_field = (control & 16) > 0, (control & 32) > 0
    announced = has_field & (data[starts + 4] > 0) & (data[starts + 5] & 128 > 0)
    is_next = (counters - previous) % 16 == has_payload
    is_damaged = (data[starts + 1] & 128) > 0
    return starts[is_damaged | ~(is_next | (counters == previous) | announced)], int(counters[-1])
