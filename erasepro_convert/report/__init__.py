"""Reports of a manifest for people: charts, and one self-contained page."""

from erasepro_convert.report.charts import png
from erasepro_convert.report.page import html

__all__ = ["html", "png"]
