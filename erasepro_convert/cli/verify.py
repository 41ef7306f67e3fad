"""``erasepro-convert verify OUT``: check that a release is what its manifest says."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_files
from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import json_option, quiet_option
from erasepro_convert.errors import UsageError
from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

if TYPE_CHECKING:
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.storage.location import Location
    from erasepro_convert.verification import Verified


@click.command("verify")
@click.argument(
    "target",
    metavar="OUT",
    type=location,
    shell_complete=complete_files(*CHECKPOINT_SUFFIXES, ".zip"),
)
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
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="OUT is evidence: the checkpoint that it is of.  [default: beside it, if it is there]",
)
@quiet_option
@json_option("checks and deviations")
def verify_command(
    target: "Location",
    record: "Location | None",
    base: "Location | None",
    text_encoder: "Location | None",
    replay: bool,
    tensors_only: bool,
    key: Path | None,
    chain: tuple[Path, ...],
    checkpoint: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check OUT against its manifest and list every deviation.

    From the manifest alone: the manifest itself, hashes and sizes, metadata, and each tensor.  With
    --base also what was touched, and every norm, residual, leak, drift and reach.  docs/audit.md
    says what that proves.  Exit code 5 if anything deviates.

    OUT can be a bundle of evidence (.evidence.zip, or a folder with its files): then every file in
    it is checked, who signed it, and the checkpoint.
    """
    from erasepro_convert.release.bundle import is_bundle

    if isinstance(target, Path) and is_bundle(target):
        if record or base or text_encoder or replay or tensors_only:
            raise UsageError("evidence goes with --checkpoint, --key and --certificate alone")
        from erasepro_convert.cli.verify_evidence import verify_bundle

        verify_bundle(target, checkpoint, key, chain, quiet=quiet, as_json=as_json)
        return
    if checkpoint:
        raise UsageError("--checkpoint is for evidence: OUT is a checkpoint itself")
    from erasepro_convert.cli.findings import print_json, require_none, show_findings
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.storage.location import redacted
    from erasepro_convert.verification.verify import verify

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
    if isinstance(target, Path) and verified.manifest.evidence_sha256:
        from erasepro_convert.release.verify_evidence import verify_evidence_beside

        findings = (*findings, *verify_evidence_beside(verified.manifest, target))
    if as_json:
        more = {"compared": verified.compared, "absent": verified.absent}
        print_json(findings, verified.checked, **more)
    show_findings(terminal, findings, verified.checked, verified.said)
    require_none(findings, redacted(target))
    _say_what_holds(terminal, verified, redacted(target), is_replayed=replay)


def _say_what_holds(
    terminal: "Terminal", verified: "Verified", target: str, *, is_replayed: bool
) -> None:
    """Say how much was compared without a deviation, and what is not in this copy."""
    from erasepro_convert.cli.terminal import LINE
    from erasepro_convert.runtime.printable import printable
    from erasepro_convert.runtime.wording import counted, listed

    compared = counted(verified.compared, "tensor")
    terminal.say(f"{target}: {compared} as the manifest says")
    if verified.lora:
        terminal.say(printable(f"{verified.lora.name}: the LoRA that the manifest says", LINE))
    if verified.absent:
        missing = counted(len(verified.absent), "tensor is", "tensors are")
        names = printable(listed(verified.absent), LINE)
        terminal.say(
            f"{missing} not in this copy, for which some containers have no place: {names}"
        )
    if is_replayed and verified.manifest.trained:
        from erasepro_convert.verification.replay import FIRST_LOSS_TOLERANCE, UPDATE_TOLERANCE

        terminal.say(
            "trained again: all figures are computed from the two files, exactly; the same bytes "
            "come on the same processor with the same libraries, elsewhere the norm of the whole "
            f"update within {UPDATE_TOLERANCE:.0%} and the loss of the first step within "
            f"{FIRST_LOSS_TOLERANCE:.0%}"
        )
