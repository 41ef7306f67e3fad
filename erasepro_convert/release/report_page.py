"""The report of a release, from what lies beside it."""

from pathlib import Path

from erasepro_convert.manifest import Manifest
from erasepro_convert.report.results_model import Evaluation


def report_page(manifest: Manifest, pictures: Path | None, evaluation: Evaluation | None) -> bytes:
    """Return the page as UTF-8, with the pictures and the evaluation where there are any.

    OSError passes through.
    """
    from erasepro_convert.report.page import html  # drawing charts is a heavy import

    return html(
        manifest,
        pictures.read_bytes() if pictures else None,
        evaluation,
    ).encode()
