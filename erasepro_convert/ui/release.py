"""The documents of a release.  This is the one list of them; each is written beside the output."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import erasepro_convert as erasepro


class Write(Protocol):
    """Writes a document of an output, and returns where it lies."""

    def __call__(self, output: Path, *, force: bool) -> Path:
        """Write it; ``force`` replaces what lies there."""


@dataclass(frozen=True)
class Document:
    """A document of an output, whose name ends in ``ending`` in place of the output's suffix."""

    title: str
    about: str
    ending: str
    write: Write

    def place(self, output: Path) -> Path:
        """Return where the document of an output lies."""
        return output.with_name(output.stem + self.ending)


DOCUMENTS = (
    Document(
        "Report",
        "one page with all measures, each prompt, all digests, and how to verify them",
        ".html",
        erasepro.write_report,
    ),
    Document(
        "Card",
        "the model card, as Hugging Face reads it",
        ".card.md",
        erasepro.write_card,
    ),
    Document(
        "Civitai",
        "a short text for the page there",
        ".civitai.html",
        erasepro.write_civitai,
    ),
    Document(
        "Evidence",
        "all of it in one file that stands alone, for platforms and for whoever asks",
        ".evidence.zip",
        erasepro.write_evidence,
    ),
)
