"""How ``verify`` checks a bundle of evidence, and what it says of it."""

import json
from pathlib import Path

import click

from erasepro_convert.errors import VerificationError


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

    from erasepro_convert.cli.terminal import MARKS, Terminal
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
    said = verified.said
    for check, held in verified.checked.items():
        mark, colour = MARKS[held]
        terminal.say(f"{mark} {check}: {said[check]}", colour)
    if findings:
        raise VerificationError(f"{bundle}: {counted(len(findings), 'deviation')}")
    terminal.say(f"{bundle}: {counted(len(verified.evidence.files), 'file')} as the evidence says")
