"""Checks of a data set before training: one file a family of faults."""

from muybridge.doctor.examine import data_of, examine
from muybridge.doctor.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "data_of", "examine"]
