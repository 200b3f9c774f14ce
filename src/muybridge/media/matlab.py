"""MATLAB files (version 7 or older), checked before anything of the size that a header announces is allocated.

SciPy allocates cell, structure and text arrays by the dimensions in their headers, so that four damaged bytes can ask
for gigabytes. Each array of a file must therefore be small enough for the bytes that follow its header.
"""

import struct
import zlib
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from muybridge.core.errors import DataError
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes

# What SciPy raises on damaged files, found by damaging files at random.
_PROBLEMS = (
    *(MatReadError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError),
    *(OSError, MemoryError, NotImplementedError, RecursionError, zlib.error, struct.error),
)
_LARGEST = 2**28  # bytes of a variable
_HEADER = 128  # bytes before the first variable
_COMPRESSED, _MATRIX = 15, 14  # types of elements
_CELL, _STRUCT, _OBJECT, _SPARSE = 1, 2, 3, 5  # classes of arrays


def read_mat(path: Path) -> dict[str, Any]:
    """The variables in a MATLAB file by their names.

    Raises:
        DataError: the file cannot be read, is not such a file, or is damaged.
    """
    content = read_bytes(path)
    try:
        if content[126:128] in (b"IM", b"MI"):
            _check(content)
        return loadmat(BytesIO(content))
    except _PROBLEMS as problem:
        raise DataError(
            f"not readable as a MATLAB file ({problem})",
            expected="a .mat file (version 7 or older)",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None


def _check(content: bytes) -> None:
    """Raise ValueError if an array of a file of version 5 to 7 is too large for its bytes."""
    order = "<" if content[126:128] == b"IM" else ">"
    position = _HEADER
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        body = memoryview(content)[position + 8 : position + 8 + size]
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            body = memoryview(unpacker.decompress(body, _LARGEST))
            if unpacker.unconsumed_tail:
                raise ValueError(f"a variable takes more than {_LARGEST} bytes")
            kind, _ = struct.unpack_from(f"{order}II", body)
            body = body[8:]
        if kind == _MATRIX:
            _check_array(body, order)
        position += 8 + size


def _check_array(body: memoryview, order: str) -> None:
    """Raise ValueError if an array, or one inside it, has more entries than its bytes can hold."""
    if not len(body):
        return  # an empty array has no header
    flags, rest = _element(body, order)
    dimensions, rest = _element(rest, order)
    (kind,) = struct.unpack_from(f"{order}I", flags)
    kind &= 0xFF
    lengths = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4])
    entries = prod(lengths)
    if min(lengths, default=0) < 0 or (kind != _SPARSE and entries > len(rest)):
        raise ValueError(f"an array of {' x '.join(map(str, lengths))} in {len(rest)} bytes")
    if kind not in (_CELL, _STRUCT, _OBJECT):
        return
    _, rest = _element(rest, order)  # the name
    if kind == _OBJECT:
        _, rest = _element(rest, order)  # the class
    if kind != _CELL:
        (width,) = struct.unpack_from(f"{order}i", _element(rest, order)[0])
        names, rest = _element(_element(rest, order)[1], order)
        entries *= len(names) // width if width > 0 else 0
    if 8 * entries > len(rest):
        raise ValueError(f"{entries} arrays in {len(rest)} bytes")
    for _ in range(entries):
        inner, rest = _element(rest, order)
        _check_array(inner, order)


def _element(body: memoryview, order: str) -> tuple[memoryview, memoryview]:
    """The content of the first element, and what follows it."""
    (first,) = struct.unpack_from(f"{order}I", body)
    if first >> 16:  # a small one: type, size and up to four bytes of content in eight bytes
        return body[4 : 4 + min(first >> 16, 4)], body[8:]
    _, size = struct.unpack_from(f"{order}II", body)
    return body[8 : 8 + size], body[8 + size + -size % 8 :]
