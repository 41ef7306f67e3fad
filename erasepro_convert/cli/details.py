"""The details of a conversion for those who ask: evidence, tables layer by layer, remarks."""

from collections.abc import Sequence

from rich.filesize import decimal
from rich.table import Table

from erasepro_convert.cli.tables import probe_table
from erasepro_convert.cli.terminal import Terminal
from erasepro_convert.manifest import EditRecord, Manifest, Trained, edited_layers
from erasepro_convert.manifest.remarks import remarks

SHORTEST_BAR, LONGEST_BAR = 8, 24
"""The least and the greatest width of a bar, in characters; below the least there is no bar."""
GAP = 2
"""Characters between two columns."""


def show_details(terminal: Terminal, manifest: Manifest) -> None:
    """Print what the input is, the table of updates, the other tables, remarks and digests."""
    source = manifest.input
    containers = ", ".join(dict.fromkeys(file.container for file in source.files))
    size = decimal(sum(file.size for file in source.files))
    terminal.say(f"{source.name}: {manifest.variant.name}, {containers}, {size}")
    for evidence in manifest.variant.evidence:
        terminal.say(f"  {evidence}", "dim")
    if manifest.edits:
        room = terminal.room_beside(_edit_table(manifest.edits, bar=0)) - GAP
        terminal.show(_edit_table(manifest.edits, bar=min(room, LONGEST_BAR)))
    if manifest.trained and manifest.trained.changes:
        terminal.show(_trained_table(manifest.trained))
    terminal.show(probe_table(manifest.probe))
    if manifest.ema:
        terminal.say("the EMA copy of the U-Net, edited too:")
        terminal.show(probe_table(manifest.ema.probe))
    for remark in remarks(manifest):
        terminal.say(str(remark))
    for file in manifest.output.files:
        terminal.say(f"{file.name}: {decimal(file.size)}, sha256 {file.sha256}")
    terminal.say("")


def _edit_table(edits: Sequence[EditRecord], bar: int) -> Table:
    """Return a row for each layer; ``bar`` is the length of the largest relative update's bar."""
    has_bars = bar >= SHORTEST_BAR
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer")
    for heading in ("update", "relative", "residual before", "after"):
        table.add_column(heading, justify="right")
    if has_bars:
        table.add_column("")
    layers = edited_layers(edits)
    largest = max(layer.relative_update for layer in layers) or 1.0
    for layer in layers:
        cells = [
            layer.name,
            f"{layer.update_norm:#.4g}",
            f"{layer.relative_update:.2%}",
            f"{layer.residual_before:.1e}",
            f"{layer.residual_after:.1e}",
        ]
        if has_bars:
            length = round(bar * layer.relative_update / largest)
            cells.append(f"[cyan]{'█' * length or '▏'}[/]")
        table.add_row(*cells)
    return table


def _trained_table(trained: Trained) -> Table:
    """Return a row for each part of the U-Net, for trained tensors that have no residual."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trained")
    for heading in ("tensors", "update", "relative"):
        table.add_column(heading, justify="right")
    for part in trained.parts():
        table.add_row(
            part.name, str(part.tensors), f"{part.update_norm:#.4g}", f"{part.relative_update:.2%}"
        )
    return table
