"""What a verification found, for people and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from erasepro_convert.cli.terminal import LINE, MARKS, Terminal
from erasepro_convert.errors import VerificationError
from erasepro_convert.runtime.printable import printable
from erasepro_convert.runtime.wording import counted
from erasepro_convert.verification.finding import Finding, summarised


def show_findings(
    terminal: Terminal,
    findings: Sequence[Finding],
    checked: Mapping[str, bool | None],
    said: Mapping[str, str],
) -> None:
    """Print the deviations, and a line for each check with what is said of it."""
    # A line for each kind of deviation where some share one.
    kinds = summarised(findings)
    # Names and values come from the file: a terminal must not obey them.
    for line in kinds if len(kinds) < len(findings) else ():
        terminal.say(printable(line, LINE))
    for finding in findings:
        terminal.say(printable(f"{finding.kind}: {finding.place}", LINE), style="bold")
        terminal.say(printable(f"  expected {finding.expected}", LINE))
        terminal.say(printable(f"  found    {finding.found}", LINE))
    for check, nothing_found in checked.items():
        mark, colour = MARKS[nothing_found]
        terminal.say(f"{mark} {check}: {said[check]}", colour)


def require_none(findings: Sequence[Finding], place: str) -> None:
    """Raise VerificationError where something deviates."""
    if findings:
        raise VerificationError(f"{place}: {counted(len(findings), 'deviation')}")


def print_json(
    findings: Sequence[Finding], checked: Mapping[str, bool | None], **others: object
) -> None:
    """Print checks and deviations to standard output, with ``others`` between them."""
    data = {"checked": checked, **others, "findings": [asdict(finding) for finding in findings]}
    click.echo(json.dumps(data, indent=2))
