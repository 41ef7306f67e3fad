"""Time and memory of a conversion by the number of concepts: ``python -m benchmarks.growth``.

Converts one full-size random checkpoint with 1, 10, 100 and 1000 concepts (default templates,
probes and hashes) and samples the process every 10 ms.  Linux only.
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.chain import concepts
from benchmarks.convert import command, make_checkpoint, recipe_of
from benchmarks.memory import sample

Row = tuple[int, float, float]


def main() -> None:
    """Print medians; write the raw figures as CSV and their picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--dtype", default="fp16", help="of the input [fp16]")
    parser.add_argument("--runs", type=int, default=3, help="of each but 1000 and more [3]")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    parser.add_argument("--png", type=Path, help="where the picture goes")
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make_checkpoint(folder / "in.ckpt", args.dtype)
        recipe = folder / "recipe.yaml"
        for count in args.concepts:
            recipe.write_text(recipe_of(concepts(count)), encoding="utf-8")
            for _ in range(args.runs if count < 1000 else 1):
                started = time.monotonic()
                peaks = sample(command(recipe, folder / "in.ckpt", folder / "out.safetensors"))
                rows.append((count, time.monotonic() - started, peaks["RssAnon"]))
                (folder / "out.safetensors").unlink()
                print("{} concepts: {:.1f} s, {:.0f} MB anonymous".format(*rows[-1]), flush=True)
    medians = [
        (count, *(statistics.median(row[i] for row in rows if row[0] == count) for i in (1, 2)))
        for count in args.concepts
    ]
    for count, seconds, memory in medians:
        print(f"| {count} | {seconds:.1f} | {memory:.0f} |")
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("concepts", "seconds", "RssAnon MB"), *rows])
    if args.png:
        draw(medians).savefig(args.png, dpi=110)


def draw(medians: list[Row]) -> Figure:
    """Seconds and megabytes over the number of concepts."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2), (1, 2), ("seconds", "MB of anonymous memory"), strict=True
    ):
        axes.plot([row[0] for row in medians], [row[column] for row in medians], "o-", c="#4c72b0")
        axes.set_xscale("log")
        axes.set_xlabel("concepts, of eight templates each")
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
