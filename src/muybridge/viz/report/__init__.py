"""One self-contained HTML page of a run, or of several side by side."""

from muybridge.viz.report.facts import RunFacts, collect
from muybridge.viz.report.page import write_report

__all__ = ["RunFacts", "collect", "write_report"]
