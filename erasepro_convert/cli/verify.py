"""``erasepro-convert verify OUT``: check that a release is what its manifest says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_files
from erasepro_convert.cli.location import path as location
from erasepro_convert.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.storage.location import Location
    from erasepro_convert.verification.finding import Finding


@click.command("verify")
@click.argument("target", metavar="OUT", type=location)
@click.option(
    "--manifest",
    "record",
    metavar="M",
    type=location,
    shell_complete=complete_files("manifest.json"),
    help="OUT's manifest.  [default: where conversion wrote it]",
)
@click.option(
    "--base",
    metavar="IN",
    type=location,
    help="The original: compare every untouched tensor with it and compute every figure anew.",
)
@click.option(
    "--text-encoder",
    metavar="FILE",
    type=location,
    help="Where the text encoder came from if IN has none.",
)
@click.option("--replay", is_flag=True, help="Run the recipe on IN again: the same tensors?")
@click.option(
    "--tensors-only",
    is_flag=True,
    help="Match a copy that was saved anew: in another order, container or spelling.",
)
@click.option(
    "--key",
    metavar="PUB",
    type=click.Path(path_type=Path),
    help="Check the signature with this public key (PEM).",
)
@click.option(
    "--certificate",
    "chain",
    metavar="CERT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Check the signature by a chain that ends in this certificate (PEM).",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings to standard output.")
def verify_command(
    target: "Location",
    record: "Location | None",
    base: "Location | None",
    text_encoder: "Location | None",
    replay: bool,
    tensors_only: bool,
    key: Path | None,
    chain: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Check OUT against its manifest and list every deviation.

    From the manifest alone: the manifest itself, hashes and sizes, metadata, and each tensor.  With
    --base also what was touched, and every norm, residual, leak, drift and reach.  docs/audit.md
    says what that proves.  Exit code 5 if anything deviates.
    """
    from dataclasses import asdict

    from erasepro_convert.cli.terminal import LINE, Terminal
    from erasepro_convert.runtime.printable import printable
    from erasepro_convert.runtime.wording import counted, listed
    from erasepro_convert.storage.location import redacted
    from erasepro_convert.verification import verify

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with terminal.progress() as progress:
        verified = verify(
            target,
            record,
            base=base,
            text_encoder=text_encoder,
            replay=replay,
            tensors_only=tensors_only,
            key=key,
            certificates=chain,
            progress=progress,
        )
    findings = verified.findings
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if findings:
        _show(findings, terminal)
        raise VerificationError(f"{redacted(target)}: {counted(len(findings), 'deviation')}")
    compared = counted(verified.compared, "tensor")
    terminal.say(f"{redacted(target)}: {compared} as the manifest says")
    if verified.absent:
        missing = counted(len(verified.absent), "tensor is", "tensors are")
        names = printable(listed(verified.absent), LINE)
        terminal.say(
            f"{missing} not in this copy, for which some containers have no place: {names}"
        )
    if replay and verified.manifest.trained:
        from erasepro_convert.verification.replay import FIRST_LOSS_TOLERANCE, UPDATE_TOLERANCE

        terminal.say(
            "trained again: all figures are computed from the two files, exactly; the same bytes "
            "come on the same processor with the same libraries, elsewhere the norm of the whole "
            f"update within {UPDATE_TOLERANCE:.0%} and the loss of the first step within "
            f"{FIRST_LOSS_TOLERANCE:.0%}"
        )


def _show(findings: "Sequence[Finding]", terminal: "Terminal") -> None:
    """Print a line for each kind of deviation where some share one, then each deviation."""
    from erasepro_convert.cli.terminal import LINE
    from erasepro_convert.runtime.printable import printable
    from erasepro_convert.verification.finding import summarised

    # Names and values come from the file: a terminal must not obey them.
    kinds = summarised(findings)
    if len(kinds) < len(findings):
        for line in kinds:
            terminal.say(printable(line, LINE))
    for finding in findings:
        terminal.say(printable(f"{finding.kind}: {finding.place}", LINE), style="bold")
        terminal.say(printable(f"  expected {finding.expected}", LINE))
        terminal.say(printable(f"  found    {finding.found}", LINE))
