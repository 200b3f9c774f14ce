"""``muybridge prepare``: from the official archives of a benchmark to an index of its videos, and small copies."""

from muybridge.prepare.prepare import Prepared, copies_of, prepare

__all__ = ["Prepared", "copies_of", "prepare"]
