"""The documents of a release.  This is the one list of them; each is written beside the output."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import erasepro_convert as erasepro


@dataclass(frozen=True)
class Document:
    """A document: ``write`` is given the output, and returns where the document lies."""

    title: str
    about: str
    write: Callable[[Path], Path]


DOCUMENTS = (
    Document(
        "Report",
        "one page with all measures, each prompt, all digests, and how to verify them",
        erasepro.write_report,
    ),
)
