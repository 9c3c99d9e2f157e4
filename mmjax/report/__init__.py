"""The report of a training run: one HTML file that needs nothing else; curves, table, attention over images."""

from mmjax.report.page import write

__all__ = ['write']
