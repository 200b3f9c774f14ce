"""Random generators seeded from a name, so that worker count, order and restarts do not change the numbers drawn."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*name: int | str) -> int:
    """A 63-bit seed from a name such as ``(seed, "sample", epoch, index)``."""
    digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def make_generator(*name: int | str) -> "torch.Generator":
    """A CPU generator that draws the same numbers for the same name on every machine."""
    import torch  # here, so that what needs only seeds starts without it

    return torch.Generator().manual_seed(derive_seed(*name))
