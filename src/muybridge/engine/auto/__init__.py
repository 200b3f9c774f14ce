"""The model of a folder of recordings, chosen by validation among those that fit, within a time limit."""

from muybridge.engine.auto.search import search
from muybridge.engine.auto.table import Attempt, SearchTable

__all__ = ["Attempt", "SearchTable", "search"]
