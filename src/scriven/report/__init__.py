"""The report of a run: one HTML file that needs no network, no account and no JavaScript.

Reads what a run folder says about itself; knows no model, no task and no tensor.
"""

from .page import write_report

__all__ = ["write_report"]
