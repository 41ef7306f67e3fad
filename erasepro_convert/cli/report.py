"""``erasepro-convert report MANIFEST [OUT]``: charts and tables for people."""

from pathlib import Path

import click

from erasepro_convert.errors import UsageError


@click.command("report")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("target", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True),
    help="The original checkpoint: draw also what each text encoder alone would need.",
)
@click.option(
    "--text-encoder",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="Where the original's text encoder came from if it had none.",
)
def report_command(
    manifest: Path, target: Path | None, base: Path | None, text_encoder: Path | None
) -> None:
    """Draw what MANIFEST says: updates, distances and probes, layer by layer.

    Writes OUT, one self-contained page (.html) or its charts alone (.png).  Without OUT the page
    is written beside the output.  The page also shows the pictures that ``preview`` drew and the
    metrics that ``evaluate`` computed, where their files lie beside the output.
    """
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest import read_manifest
    from erasepro_convert.output.destinations import Inputs, put, require_outputs
    from erasepro_convert.release.results import (
        EVALUATION,
        PICTURES,
        REPORT,
        output_of,
        read_evaluation,
    )
    from erasepro_convert.storage.location import sibling

    if text_encoder and base is None:
        raise UsageError("--text-encoder needs --base")
    record = read_manifest(manifest)
    output = output_of(manifest)
    target = target or sibling(output, REPORT)
    if target.suffix not in (".html", ".png"):
        raise UsageError(f"{target}: the report is an .html or a .png file")
    drawn, found = sibling(output, PICTURES), sibling(output, EVALUATION)
    originals = [path for path in (base, text_encoder) if path]
    inputs = Inputs((manifest, drawn, found, *originals))
    require_outputs([target], inputs)
    from erasepro_convert.report import html, png

    terminal = Terminal(quiet=False, to_stderr=False)
    if base:
        from erasepro_convert.report.burden import with_burden

        with terminal.progress() as progress:
            record = with_burden(record, base, output, text_encoder, progress)

    if target.suffix == ".html":
        pictures = drawn.read_bytes() if drawn.exists() else None
        evaluation = read_evaluation(output, record)
        data = evaluation.model_dump() if evaluation else None
        put(target, html(record, pictures, data).encode(), inputs)
    else:
        put(target, png(record), inputs)
    terminal.say(f"wrote {target}")
