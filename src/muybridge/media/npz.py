"""Arrays in ``.npy`` and ``.npz`` files, checked before anything of the size that a header announces is allocated."""

import tokenize
import zipfile
import zlib
from collections.abc import Collection
from io import BufferedIOBase, BytesIO
from math import prod
from pathlib import Path

import numpy as np

# What NumPy, zipfile and zlib raise on damaged files, found by damaging files at random.
NUMPY_PROBLEMS = (
    *(ValueError, TypeError, SyntaxError, RuntimeError, OSError, EOFError, KeyError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, NotImplementedError, RecursionError, IndexError),
)
_DEFLATE_LIMIT = 1100  # deflate makes nothing smaller than by about 1032
_HEADER = 16_384  # bytes; NumPy itself refuses headers of more than 10,000


def read_npz(
    file: BytesIO | Path, wanted: Collection[str], largest: int = 2**30
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays with the names that are wanted, and the names of all arrays in the file.

    Args:
        file: an archive as NumPy writes it.
        wanted: names; those that are missing are left out.
        largest: bytes that an array may take.

    Raises:
        NUMPY_PROBLEMS: damaged, with Python objects in a wanted array, or larger than that.
    """
    arrays, names = {}, []
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            names.append(name)
            if name not in wanted:
                continue
            if name in arrays:
                raise ValueError(f"{name} is in the archive twice")
            if entry.file_size > min(largest, _DEFLATE_LIMIT * max(entry.compress_size, 1)):
                raise ValueError(f"{name} would take {entry.file_size} bytes")
            with archive.open(entry) as member:
                assert isinstance(member, BufferedIOBase)
                arrays[name] = _read_array(member, entry.file_size)
    return arrays, names


def read_npy(content: bytes) -> np.ndarray:
    """The array in a ``.npy`` file.

    Raises:
        NUMPY_PROBLEMS: damaged, or with Python objects.
    """
    return _read_array(BytesIO(content), len(content))


def _read_array(file: BufferedIOBase, size: int) -> np.ndarray:
    """The array in a file of ``size`` bytes."""
    header = BytesIO(file.read(min(size, _HEADER)))
    version = np.lib.format.read_magic(header)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"the array has version {version[0]}.{version[1]}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(header)
    count = prod(shape)
    if dtype.hasobject:
        raise ValueError("the array contains Python objects")
    if min(shape, default=0) < 0 or count * max(dtype.itemsize, 1) > size - header.tell():
        lengths = " x ".join(map(str, shape))
        raise ValueError(f"the header announces {lengths} of {dtype}, and the file is too short for that")
    content = bytearray(header.read())  # which can be written to, as PyTorch asks
    content += file.read()
    return np.frombuffer(content, dtype=dtype, count=count).reshape(shape, order="F" if fortran_order else "C")
