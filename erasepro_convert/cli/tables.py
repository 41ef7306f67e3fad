"""Tables of results for a terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table

from erasepro_convert.cli.terminal import cell
from erasepro_convert.manifest import ProbeRecord, PromptMeasure
from erasepro_convert.runtime.figures import format_estimate
from erasepro_convert.runtime.printable import printable

if TYPE_CHECKING:  # at run time these would import torch
    from erasepro_convert.attacks.run import StressRow
    from erasepro_convert.inspection import Inspection
    from erasepro_convert.probing.neighbours import Neighbour

LONGEST_METADATA = 120
"""The most characters of a metadata entry."""


def probe_table(record: ProbeRecord) -> Table:
    """Return leak and reach by concept, and drift, for each way of feeding the U-Net."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("held-out prompts", "text encoder"):
        table.add_column(heading)
    for heading in ("before", "mean", "worst"):
        table.add_column(heading, justify="right")
    table.add_column("at", overflow="fold")
    skips = {measure.feed.clip_skip for measure in record.drift}

    def feed(encoder: str, clip_skip: int) -> str:
        return f"{encoder}, clip skip {clip_skip}" if len(skips) > 1 else encoder

    def add(measured: str, measure: PromptMeasure) -> None:
        values = (f"{value:.2f}" for value in (measure.before, measure.mean, measure.worst))
        encoder = feed(measure.feed.text_encoder, measure.feed.clip_skip)
        table.add_row(cell(measured), encoder, *values, cell(measure.worst_prompt))

    for leak in record.leak:
        add(f"leak of {leak.concept}", leak)
    for reach in record.reach:
        value = f"{reach.reach:.2f}"
        table.add_row(cell(f"reach of {reach.concept}"), feed("any", reach.clip_skip), "", value)
    for drift in record.drift:
        add("drift of others", drift)
    return table


def inspection_table(inspection: "Inspection") -> Table:
    """Return a row for each property of a checkpoint."""
    table = Table(box=None, pad_edge=True, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, lines: Iterable[str]) -> None:
        for number, line in enumerate(lines):
            table.add_row("" if number else name, cell(line))

    for file in inspection.files:
        row("file", [f"{file.name}: {file.container}, {decimal(file.size)}"])
        hashes = {"AutoV1": file.autov1, "AutoV2": file.autov2, "AutoV3": file.autov3}
        row("hashes", [", ".join(f"{name} {value}" for name, value in hashes.items() if value)])
        row("SHA-256", [file.sha256] if file.sha256 else [])
    row("variant", [inspection.variant] if inspection.variant else [])
    row("evidence", inspection.evidence)
    row(
        "tensors",
        [
            f"{part}: " + ", ".join(f"{count} {dtype}" for dtype, count in counts.items())
            for part, counts in inspection.tensors.items()
        ],
    )
    row("notable", inspection.facts)
    row("left out", [f"{count}: {reason}" for reason, count in inspection.left_out.items()])
    row(
        "metadata",
        [printable(f"{k}: {v}", LONGEST_METADATA) for k, v in sorted(inspection.metadata.items())],
    )
    row("pickle asks for", [", ".join(inspection.asks_for)] if inspection.asks_for else [])
    verdict = "[red]would be refused[/]" if inspection.refused else "[green]would be converted[/]"
    table.add_row("", verdict)
    row("because", [inspection.refused] if inspection.refused else [])
    return table


def distance_table(record: ProbeRecord) -> Table:
    """Return the distance of each target from its anchor in one checkpoint alone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("held-out prompts")
    table.add_column("distance to the anchor", justify="right")
    for measure in record.leak:
        if measure.feed.text_encoder == "stock":
            continue  # without a base there is no stock text encoder
        table.add_row(cell(f"{measure.concept}"), f"{measure.distance_before:.2f}")
    return table


def neighbour_table(neighbours: Sequence["Neighbour"]) -> Table:
    """Return words with their cosines, the nearest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("word", no_wrap=True)
    table.add_column("cosine", justify="right")
    for neighbour in neighbours:
        table.add_row(cell(neighbour.word), f"{neighbour.cosine:.2f}")
    return table


def stress_table(rows: Sequence["StressRow"]) -> Table:
    """Return a row for each attack: how near it comes to the target, and how much is recovered.

    Columns of rates are there where pictures were drawn.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attack")
    is_drawn = any(row.drawn for row in rows)
    headings = ["distance", *(["original", "erased", "recovered"] if is_drawn else ["original"])]
    for heading in (*headings, "control"):
        table.add_column(heading, justify="right")
    for row in rows:
        name = f"{row.concept}, no attack" if row.attack == "none" else f"{row.attack}: {row.how}"
        near = row.distances
        cells = [_two_digits(near.erased if near else None)]
        if drawn := row.drawn:
            cells += [format_estimate(rate, 2) for rate in (drawn.original, drawn.erased)]
            cells.append(format_estimate(drawn.recovered, 2, " [dim]{}…{}[/]"))
            cells.append(format_estimate(drawn.control, 2))
        else:
            cells.append(_two_digits(near.original if near else None))
            cells.append(_two_digits(near.control if near else None))
        table.add_row(cell(name), *cells)
    return table


def _two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
