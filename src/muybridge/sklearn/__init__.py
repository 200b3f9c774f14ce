"""Recognising actions with the interface of scikit-learn."""

from muybridge.sklearn.recogniser import Recogniser

__all__ = ["Recogniser"]
