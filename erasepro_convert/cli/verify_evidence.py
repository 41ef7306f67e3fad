"""How ``verify`` checks a bundle of evidence, and what it says of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.errors import VerificationError

if TYPE_CHECKING:
    from erasepro_convert.release.verify_evidence import VerifiedEvidence

HELD = {
    "bundle": "each file has its size and digest; none is missing, none too many",
    "evidence": "true to itself; digests, runs and what is not stated fit the rest",
    "manifest": "true to itself, and named by the evidence",
    "recipe": "reads as the one in the manifest",
    "bom": "valid CycloneDX 1.6, with the manifest's digests",
    "results": "evaluation and stress test, where they are, are of this checkpoint",
    "signature": "made by this key or certificate, of this evidence",
    "checkpoint": "files, metadata and tensors are as the manifest says",
    "link": "the manifest beside the checkpoint names this evidence",
}
"""What a check says that found nothing."""


def verify_bundle(
    bundle: Path,
    checkpoint: Path | None,
    key: Path | None,
    chain: tuple[Path, ...],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Verify a bundle of evidence and say what was checked.

    Raises VerificationError if anything deviates, and what ``verify_evidence`` raises.
    """
    from dataclasses import asdict

    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.cli.verify import show
    from erasepro_convert.release.verify_evidence import verify_evidence
    from erasepro_convert.runtime.wording import counted

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with terminal.progress() as progress:
        verified = verify_evidence(
            bundle, checkpoint=checkpoint, key=key, certificates=chain, progress=progress
        )
    findings = verified.findings
    if as_json:
        data = {"checked": verified.checked, "findings": [asdict(found) for found in findings]}
        click.echo(json.dumps(data, indent=2))
    if findings:
        show(findings, terminal)
    for line, colour in _checks(verified):
        terminal.say(line, colour)
    if findings:
        raise VerificationError(f"{bundle}: {counted(len(findings), 'deviation')}")
    terminal.say(f"{bundle}: {counted(len(verified.evidence.files), 'file')} as the evidence says")


def _checks(verified: "VerifiedEvidence") -> Iterator[tuple[str, str]]:
    """Give a line with its colour for each check: it held, deviates, or was not made."""
    from erasepro_convert.cli.terminal import MARKS

    how = {
        "signature": "give --key PUB or --certificate CERT"
        if verified.is_signed
        else "it is not signed",
        "checkpoint": "it does not lie beside: give --checkpoint OUT",
        "link": "no manifest that names evidence lies beside the checkpoint",
    }
    for check, held in verified.checked.items():
        mark, colour = MARKS[held]
        if held is None:
            said = f"not checked ({how[check]})"
        else:
            said = HELD[check] if held else "deviates"
        yield f"{mark} {check}: {said}", colour
