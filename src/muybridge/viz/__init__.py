"""Figures and animations of runs and recordings."""
