"""Pages about a run, each one HTML file that needs nothing else: its report, and a search in its pictures."""

from mmjax.report.page import write

__all__ = ['write']
