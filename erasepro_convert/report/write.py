"""Write the report of a release beside it."""

from pathlib import Path

from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.output.destinations import Inputs, put, require_outputs
from erasepro_convert.report.page import html
from erasepro_convert.storage.location import sibling


def write_report(output: Path | str) -> Path:
    """Write the report of an output, a file or a diffusers folder, and return where it lies.

    It shows what the output's manifest says, and the pictures that ``preview`` drew where they lie
    beside the output.  A report that was written before is replaced.

    Raises UsageError for an output without a manifest and for a place that cannot be written to;
    OSError passes through.
    """
    output = Path(output)
    manifest = manifest_path(output, folder=output.is_dir())
    record = read_manifest(manifest)
    target, drawn = sibling(output, ".html"), sibling(output, ".before-after.png")
    inputs = Inputs((output, manifest, drawn))
    require_outputs([target], inputs)
    put(target, html(record, drawn.read_bytes() if drawn.exists() else None).encode(), inputs)
    return target
