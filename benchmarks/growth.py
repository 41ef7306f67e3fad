"""Time and memory of a conversion by the number of concepts: ``python -m benchmarks.growth``.

Converts one full-size random checkpoint with 1, 10, 100 and 1000 concepts (default templates and
probes) and samples the process every 10 ms.  The text encoder is known; the first run with a number
of concepts is a new recipe, those after it find it in the user's cache folder.  Linux only.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.chain import concepts
from benchmarks.convert import command, core_seconds, make_checkpoint, recipe_of
from benchmarks.memory import sample


class Row(NamedTuple):
    """A conversion; the recipe is ``new`` or ``known``."""

    concepts: int
    recipe: str
    seconds: float
    core_seconds: float
    anonymous_mb: float


def main() -> None:
    """Print medians; write the raw figures as CSV and their picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--runs", type=int, default=2, help="of each known but 1000 [2]")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    parser.add_argument("--png", type=Path, help="where the picture goes")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        source, target = folder / "in.safetensors", folder / "out.safetensors"
        make_checkpoint(source, args.dtype)
        recipe = folder / "recipe.yaml"
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        sample(command(recipe, source, target))  # so that the text encoder is known
        for count in args.concepts:
            recipe.write_text(recipe_of(concepts(count)), encoding="utf-8")
            for run in range(1 + (args.runs if count < 1000 else 0)):
                started, before = time.monotonic(), core_seconds()
                peaks = sample(command(recipe, source, target))
                seconds, used = time.monotonic() - started, core_seconds() - before
                state = "known" if run else "new"
                rows.append(Row(count, state, seconds, used, peaks["RssAnon"]))
                target.unlink()
                print(shown(rows[-1]), flush=True)
    medians = [median(list(group)) for _, group in groupby(rows, lambda row: row[:2])]
    for row in medians:
        print(shown(row))
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([Row._fields, *rows])
    if args.png:
        draw(medians).savefig(args.png, dpi=110)


def median(rows: Sequence[Row]) -> Row:
    """The medians of rows with the same concepts and state."""
    return Row(
        rows[0].concepts,
        rows[0].recipe,
        statistics.median(row.seconds for row in rows),
        statistics.median(row.core_seconds for row in rows),
        statistics.median(row.anonymous_mb for row in rows),
    )


def shown(row: Row) -> str:
    """A line of a table."""
    return (
        f"| {row.concepts} | {row.recipe} | {row.seconds:.1f} | {row.core_seconds:.1f} "
        f"| {row.anonymous_mb:.0f} |"
    )


def draw(medians: list[Row]) -> Figure:
    """Seconds and megabytes over the number of concepts."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2), (2, 4), ("seconds", "MB of anonymous memory"), strict=True
    ):
        for state, colour in (("new", "#4c72b0"), ("known", "#dd8452")):
            mine = [row for row in medians if row[1] == state]
            axes.plot(
                [row[0] for row in mine],
                [row[column] for row in mine],
                "o-",
                c=colour,
                label=f"{state} recipe",
            )
        axes.set_xscale("log")
        axes.set_xlabel("concepts, of eight templates each")
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
