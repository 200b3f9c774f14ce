"""MATLAB files of versions 5 to 7: arrays of numbers, text, cells and structures.

SciPy's reader ends the whole process on some damaged files, which nothing can catch, and allocates what a header
announces. This one checks every length against the bytes that follow; for sound files both give equal arrays.

Source: "MAT-File Format", MathWorks, level 5. An element is a type, a size and its content; an array is an element that
contains its flags, its dimensions, its name and its values. Values are in column-major order.
"""

import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from muybridge.core.errors import DataError
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes

_LARGEST = 2**28  # bytes of a variable
_DEEPEST = 50  # arrays inside one another
_HEADER = 128  # bytes before the first variable
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_CELL, _STRUCT, _CHAR = 1, 2, 4  # classes of arrays
_COMPLEX = 0x0800
# How values are stored by type of element, and what they are by class of array.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class _Element(NamedTuple):
    kind: int
    content: memoryview
    rest: memoryview


def read_mat(path: Path) -> dict[str, Any]:
    """The variables in a MATLAB file by their names, with the shapes they have in MATLAB.

    Text is an array of strings, without the last axis. A structure is an array with a field for each of its names. What
    is neither of these nor numbers nor cells is an array without axes.

    Raises:
        DataError: the file cannot be read, is not such a file, or is damaged.
    """
    content = read_bytes(path)
    try:
        return _variables(content)
    except (ValueError, TypeError, struct.error, zlib.error, MemoryError) as problem:
        raise DataError(
            f"not readable as a MATLAB file ({problem})",
            expected="a .mat file of version 5 to 7",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None


def _variables(content: bytes) -> dict[str, Any]:
    mark = content[126:_HEADER]
    if mark not in (b"IM", b"MI"):
        raise ValueError("the header is not that of version 5 to 7")
    order = "<" if mark == b"IM" else ">"
    rest, variables = memoryview(content)[_HEADER:], {}
    while len(rest):
        kind, size = struct.unpack_from(f"{order}II", rest)
        if size > len(rest) - 8:
            raise ValueError("the file is cut short")
        body, rest = rest[8 : 8 + size], rest[8 + size :]
        if kind == _COMPRESSED:
            kind, body, _ = _element(_decompress(body), order)
        if kind != _MATRIX:
            raise ValueError(f"a variable has the type {kind}")
        name, array = _array(body, order)
        if name in variables:
            raise ValueError(f"{name} is in the file twice")
        if name:  # without a name it is the workspace of functions
            variables[name] = array
    return variables


def _decompress(body: memoryview) -> memoryview:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(body, _LARGEST)
    if unpacker.unconsumed_tail:
        raise ValueError(f"a variable takes more than {_LARGEST} bytes")
    if not unpacker.eof:
        raise ValueError("the file is cut short")
    return memoryview(content)


def _element(body: memoryview, order: str) -> _Element:
    """The first element, and what follows it."""
    (first,) = struct.unpack_from(f"{order}I", body)
    if size := first >> 16:  # a small one: type, size and up to four bytes of content in eight bytes
        if size > 4 or len(body) < 8:
            raise ValueError("an element is cut short")
        return _Element(first & 0xFFFF, body[4 : 4 + size], body[8:])
    kind, size = struct.unpack_from(f"{order}II", body)
    if size > len(body) - 8:
        raise ValueError("an element is cut short")
    return _Element(kind, body[8 : 8 + size], body[8 + size + -size % 8 :])


def _array(body: memoryview, order: str, depth: int = 0) -> tuple[str, np.ndarray]:
    """The name and the values of an array."""
    if depth > _DEEPEST:
        raise ValueError(f"arrays are nested more than {_DEEPEST} times")
    if not len(body):
        return "", np.empty((0, 0))  # an array without entries may have no header
    _, flags, rest = _element(body, order)
    _, dimensions, rest = _element(rest, order)
    _, name, rest = _element(rest, order)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array is {' x '.join(map(str, shape))}")
    kind = flag & 0xFF
    if kind in _NUMBERS:
        values = _numbers(rest, order, shape, _NUMBERS[kind], bool(flag & _COMPLEX))
    elif kind == _CHAR:
        values = _text(rest, order, shape)
    elif kind in (_CELL, _STRUCT):
        values = _nested(rest, order, shape, kind == _STRUCT, depth)
    else:
        values = np.empty((), dtype=object)
    return bytes(name).decode("latin-1"), values


def _numbers(body: memoryview, order: str, shape: tuple[int, ...], kind: str, is_complex: bool) -> np.ndarray:
    parts = []
    for _ in range(2 if is_complex else 1):
        stored, content, body = _element(body, order)
        if stored not in _STORED:
            raise ValueError(f"numbers have the type {stored}")
        part = np.frombuffer(content, dtype=f"{order}{_STORED[stored]}")
        parts.append(_shaped(part, shape).astype(kind))
    return parts[0] + 1j * parts[1] if is_complex else parts[0]


def _text(body: memoryview, order: str, shape: tuple[int, ...]) -> np.ndarray:
    if not prod(shape):
        return np.zeros(shape[:-1] if shape[-1] else (0,), dtype="U1")
    stored, content, _ = _element(body, order)
    if stored not in _TEXT:
        raise ValueError(f"text has the type {stored}")
    encoding = _TEXT[stored] + {"<": "-le", ">": "-be"}[order] * (_TEXT[stored] in ("utf-16", "utf-32"))
    letters = _shaped(np.array(list(bytes(content).decode(encoding)), dtype="U1"), shape)
    rows = ["".join(row) for row in letters.reshape(-1, shape[-1])]
    return np.array(rows).reshape(shape[:-1])


def _nested(body: memoryview, order: str, shape: tuple[int, ...], has_names: bool, depth: int) -> np.ndarray:
    """Cells, or structures: arrays inside an array."""
    names: list[str] = []
    if has_names:
        _, content, body = _element(body, order)
        (width,) = struct.unpack_from(f"{order}i", content)
        _, content, body = _element(body, order)
        if width < 1 or len(content) % width:
            raise ValueError("the names of a structure have no length")
        words = (bytes(content[start : start + width]) for start in range(0, len(content), width))
        names = [word.partition(b"\0")[0].decode("latin-1") for word in words]
    count = prod(shape)
    if 8 * count * (len(names) if has_names else 1) > len(body) or (has_names and not names and count > len(body) + 1):
        raise ValueError(f"{' x '.join(map(str, shape))} arrays in {len(body)} bytes")
    values = np.empty(count, dtype=[(name, object) for name in names] if has_names else object)
    for index in range(count):
        inner = []
        for _ in names if has_names else range(1):
            kind, content, body = _element(body, order)
            if kind != _MATRIX:
                raise ValueError(f"an array inside another has the type {kind}")
            inner.append(_array(content, order, depth + 1)[1])
        values[index] = tuple(inner) if has_names else inner[0]
    return _shaped(values, shape)


def _shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(values) != prod(shape):
        raise ValueError(f"an array of {' x '.join(map(str, shape))} has {len(values)} entries")
    return values.reshape(shape, order="F")
