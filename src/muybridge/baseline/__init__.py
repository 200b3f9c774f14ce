"""Baselines: how far simple methods get on a data set, which tells what a trained network is worth on it."""

from muybridge.baseline.table import Baseline, BaselineTable

__all__ = ["Baseline", "BaselineTable"]
