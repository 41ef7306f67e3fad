"""``erasepro-convert report MANIFEST``: charts and tables for people."""

from pathlib import Path

import click

from erasepro_convert.cli.completion import complete_files
from erasepro_convert.cli.location import existing_path, local_path
from erasepro_convert.cli.output_options import (
    chosen_outputs,
    force_option,
    out_option,
    write_outputs,
)
from erasepro_convert.errors import UsageError
from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

OUTPUTS = (".html", ".png")


@click.command("report")
@click.argument(
    "place",
    metavar="OUT",
    type=local_path,
    shell_complete=complete_files("manifest.json", *CHECKPOINT_SUFFIXES),
)
@click.option(
    "--base",
    type=existing_path,
    help="The original checkpoint: draw also what each text encoder alone would need.",
)
@click.option(
    "--text-encoder",
    metavar="FILE",
    type=existing_path,
    help="Where the original's text encoder came from if it had none.",
)
@out_option(OUTPUTS, "OUT.html")
@force_option
def report_command(
    place: Path,
    base: Path | None,
    text_encoder: Path | None,
    out: tuple[Path, ...],
    force: bool,
) -> None:
    """Draw what the manifest of OUT says: updates, distances and probes, layer by layer.

    Writes one self-contained page (.html), or its charts alone (.png), beside the output OUT.  The
    page also shows the pictures that preview drew and the metrics that evaluate computed,
    where their files lie beside OUT.
    """
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest import read_manifest
    from erasepro_convert.manifest.names_beside import EVALUATION, PICTURES, REPORT
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.release.report_page import report_page
    from erasepro_convert.release.results import manifest_and_output, read_evaluation
    from erasepro_convert.storage.location import sibling

    if text_encoder and base is None:
        raise UsageError("--text-encoder needs --base")
    manifest, output = manifest_and_output(place)
    record = read_manifest(manifest)
    outputs = chosen_outputs(out, [sibling(output, REPORT)], OUTPUTS)
    drawn, found = sibling(output, PICTURES), sibling(output, EVALUATION)
    originals = [path for path in (base, text_encoder) if path]
    inputs = Inputs((manifest, drawn, found, *originals))
    require_outputs(outputs, inputs, force=force)
    from erasepro_convert.report.charts import png

    terminal = Terminal(quiet=False, to_stderr=False)
    if base:
        from erasepro_convert.report.burden import with_burden

        with terminal.progress() as progress:
            record = with_burden(record, base, output, text_encoder, progress)

    def page() -> bytes:
        pictures = drawn if drawn.exists() else None
        return report_page(record, pictures, read_evaluation(output, record))

    contents = {f.suffix: page() if f.suffix == ".html" else png(record) for f in outputs}
    write_outputs(outputs, contents, inputs, terminal)
