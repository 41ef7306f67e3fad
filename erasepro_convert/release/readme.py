"""The text beside evidence that says what each file is and how to check all of it."""

from collections.abc import Iterable
from textwrap import fill

from erasepro_convert.release.bundle import (
    BILL,
    CARD,
    EVALUATION,
    EVIDENCE,
    MANIFEST,
    PICTURES,
    README,
    RECIPE,
    REPORT,
    SIGNATURE,
    STRESS,
)
from erasepro_convert.runtime.printable import printable

CONTENTS = {
    EVIDENCE: "who answers for the release and why, what was tested and what was not, known "
    "ways back, and the digests of all other files",
    SIGNATURE: "the signature of evidence.json, where it is signed",
    MANIFEST: "the record of the conversion: what was read, changed and written",
    RECIPE: "what was asked for, with all defaults: the program makes the checkpoint of it again",
    REPORT: "the same for people; it opens in any browser and loads nothing",
    CARD: "the model card",
    EVALUATION: "what judges saw in pictures of the original and of this checkpoint",
    STRESS: "what came back under attack",
    PICTURES: "pictures of the original and of this checkpoint",
    BILL: "a bill of materials (CycloneDX 1.6): the model, its original, its card",
    README: "this text",
}
"""What each file of a bundle is, in the order in which they are read."""

TEXT = """\
Evidence of {output}

{contents}

To check all of it, offline, with the program that made it:

  erasepro-convert verify BUNDLE.zip                    every file and digest
  erasepro-convert verify BUNDLE.zip --checkpoint FILE  ... and the checkpoint
  erasepro-convert verify BUNDLE.zip --key PUBLIC.pem   ... and who signed it

A folder with these files is checked in the same way. By hand: evidence.json
has the SHA-256 of every other file here, and of the checkpoint's.

Digests show damage and careless edits. Against somebody who rewrites all files
there is the signature, and there is the original checkpoint, from which every
figure of the manifest can be computed again:

  erasepro-convert verify FILE --manifest manifest.json --base ORIGINAL
"""

INDENT = 2 + max(map(len, CONTENTS)) + 2


def readme(output: str, names: Iterable[str]) -> str:
    """Return the text for a bundle that has these files beside those that every bundle has."""
    there = {*names, BILL, EVIDENCE, SIGNATURE, README}
    lines = [
        fill(
            f"  {name:<{INDENT - 2}}{words}",
            width=79,
            subsequent_indent=" " * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, words in CONTENTS.items()
        if name in there
    ]
    return TEXT.format(output=printable(output), contents="\n".join(lines))
