"""The batch on one page."""

from collections.abc import Mapping
from pathlib import Path

from erasepro_convert.batch.ledger import Entry

SUMMARY = "batch.html"


def write_summary(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Write the page."""
    (folder / SUMMARY).write_text("")
