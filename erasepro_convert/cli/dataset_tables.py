"""Tables of what published prompts say of an erasure, for a terminal."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from erasepro_convert.cli.terminal import cell
from erasepro_convert.probing.dataset_probe import DatasetMeasure
from erasepro_convert.runtime.printable import printable

LONGEST_PROMPT = 40
"""The most characters of a worst prompt."""
NONE = "–"


def dataset_tables(measures: Sequence[DatasetMeasure]) -> Iterator[Table]:
    """Give a table for each target, by level and text encoder, and one for neighbours."""
    about = [m for m in measures if m.kind == "target"]
    for target, group in groupby(about, lambda m: m.concept):
        yield _target_table(target or "", list(group))
    if neighbours := [m for m in measures if m.kind != "target"]:
        yield _neighbour_table(neighbours)


def _target_table(target: str, measures: Sequence[DatasetMeasure]) -> Table:
    table = _table(target, "leak", "worst\nleak", "before", "presence", "worst")
    rows: dict[tuple[str, str], dict[str, DatasetMeasure]] = {}
    for m in measures:
        rows.setdefault((m.level or NONE, _encoder(m, measures)), {})[m.measure] = m
    for (level, encoder), found in rows.items():
        presence, leak = found["presence"], found.get("leak")
        table.add_row(
            cell(level),
            encoder,
            _count(presence),
            *([f"{leak.mean:.2f}", f"{leak.worst[0][0]:.2f}"] if leak else [NONE, NONE]),
            f"{presence.before:.2f}",
            f"{presence.mean:.2f}",
            *_worst(presence),
        )
    return table


def _neighbour_table(measures: Sequence[DatasetMeasure]) -> Table:
    table = _table("neighbours", "drift", "worst")
    for m in measures:
        name = f"near {m.concept}" if m.kind == "near" else "far"
        cells = f"{m.mean:.2f}", *_worst(m)
        table.add_row(cell(name), _encoder(m, measures), _count(m), *cells)
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(cell(first))
    table.add_column("encoder")
    for heading in ("no.", *numbers):
        table.add_column(heading, justify="right")
    table.add_column("at", overflow="fold")
    return table


def _count(measure: DatasetMeasure) -> str:
    """Return how many prompts were measured, and of how many, if not all."""
    count = str(measure.prompts)
    return count if measure.prompts == measure.found else f"{count}/{measure.found}"


def _worst(measure: DatasetMeasure) -> tuple[str, str]:
    value, prompt, _ = measure.worst[0]
    return f"{value:.2f}", cell(printable(prompt, LONGEST_PROMPT))


def _encoder(measure: DatasetMeasure, all_measures: Sequence[DatasetMeasure]) -> str:
    """Return the text encoder, with the clip skip where there are several."""
    encoder: str = measure.feed.text_encoder
    skips = {m.feed.clip_skip for m in all_measures}
    return f"{encoder} {measure.feed.clip_skip}" if len(skips) > 1 else encoder
