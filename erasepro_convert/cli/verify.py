"""``erasepro-convert verify OUT``: whether a release is what its manifest says."""

import json
from pathlib import Path

import click

from erasepro_convert.errors import UsageError, VerificationError


@click.command("verify")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--manifest",
    "record",
    metavar="M",
    type=click.Path(path_type=Path),
    help="OUT's manifest.  [default: where conversion wrote it]",
)
@click.option(
    "--base",
    metavar="IN",
    type=click.Path(path_type=Path),
    help="The original: compare every untouched tensor with it and compute every figure anew.",
)
@click.option(
    "--text-encoder",
    metavar="FILE",
    type=click.Path(path_type=Path),
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
    target: Path,
    record: Path | None,
    base: Path | None,
    text_encoder: Path | None,
    replay: bool,
    tensors_only: bool,
    key: Path | None,
    chain: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Check OUT against its manifest and list every deviation.

    From the manifest alone: the manifest itself, hashes and sizes, metadata, and each tensor.  With
    --base also what was touched, and every norm, residual, leak and drift.  docs/audit.md says what
    that proves.  Exit code 5 if anything deviates.
    """
    from dataclasses import asdict

    from erasepro_convert.checkpoint.names import printable
    from erasepro_convert.cli.terminal import LINE, Terminal
    from erasepro_convert.manifest import manifest_path, read_manifest
    from erasepro_convert.verify import Request, verify

    if (replay or text_encoder) and base is None:
        raise UsageError("--replay and --text-encoder need --base")
    path = record or manifest_path(target, folder=target.is_dir())
    for needed in (target, path, *([base] if base else [])):
        if not needed.exists():
            raise UsageError(f"{needed}: there is no such file")
    try:
        manifest = read_manifest(path)
    except UsageError as error:  # what is no manifest vouches for nothing
        raise VerificationError(str(error)) from error
    terminal = Terminal(quiet=quiet or as_json, to_stderr=False)
    request = Request(target, base, text_encoder, replay, tensors_only)
    with terminal.progress() as progress:
        findings = verify(manifest, request, progress)
    if key or chain:
        from erasepro_convert.signature import of_signature

        findings += of_signature(manifest, target, path, key, chain)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if findings:
        for finding in findings:
            # Names and values come from the file: a terminal must not obey them.
            terminal.say(printable(f"{finding.kind}: {finding.name}", LINE), style="bold")
            terminal.say(printable(f"  expected {finding.expected}", LINE))
            terminal.say(printable(f"  found    {finding.found}", LINE))
        raise VerificationError(f"{target}: {len(findings)} deviations")
    terminal.say(f"{target}: {len(manifest.output.tensors)} tensors as the manifest says")
