"""What the size of a LoRA costs: ``python -m benchmarks.lora``.

Erases from the demo model and from a full-size random checkpoint, makes the LoRA of each erasure
with several largest ranks, and measures the original with it.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.convert import make_checkpoint, recipe_of
from erasepro_convert import demo
from erasepro_convert.conversion.erasure import run_erasure
from erasepro_convert.conversion.lora import make_lora
from erasepro_convert.manifest import PromptMeasure
from erasepro_convert.output.lora import lora_file
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.progress import silent
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint

CSV = Path(__file__).parent / "results" / "lora.csv"
LIMITS = (4, 8, 16, 32, 64, 128, None)


class Row(NamedTuple):
    """A LoRA; leak and drift are the largest means, ``file`` those of the whole checkpoint."""

    model: str
    limit: str
    rank: int
    megabytes: float
    exact: int
    overall: float
    worst: float
    leak: float
    drift: float
    file_leak: float
    file_drift: float


def main() -> None:
    """Print a line for each LoRA, and write them as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=args.folder) as name,
        demo.checkpoint() as small,
        CSV.open("w", newline="", encoding="utf-8") as file,
    ):
        large, recipe = Path(name, "in.safetensors"), Path(name, "recipe.yaml")
        make_checkpoint(large, "fp16")
        recipe.write_text(recipe_of(["Van Gogh"]), encoding="utf-8")
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(Row._fields)
        for case in (
            ("snoopy", small, Path("recipes/demo/snoopy.yaml"), None),
            ("no-fire", small, Path("recipes/demo/no-fire.yaml"), None),
            ("random-fp16", large, recipe, None),
            ("random-fp32", large, recipe, torch.float32),
        ):
            for row in measured(*case):
                print(*row, flush=True)
                lines.writerow(row)


def measured(model: str, source: Path, recipe: Path, dtype: torch.dtype | None) -> Iterator[Row]:
    """Erase once, and give the LoRA with each limit."""
    base = open_sd1_checkpoint(source)
    erasure = run_erasure(base, load_recipe(recipe), dtype, silent)
    for limit in LIMITS:
        lora = make_lora(base, erasure, limit, silent)
        size = lora_file(lora.factors, {}).nbytes
        probe, loss = lora.probe or erasure.probe, lora.loss
        yield Row(
            model,
            str(limit or "none"),
            loss.rank,
            round(size / 1e6, 3),
            loss.exact,
            round(loss.overall, 6),
            round(loss.worst, 6),
            largest(probe.leak),
            largest(probe.drift),
            largest(erasure.probe.leak),
            largest(erasure.probe.drift),
        )


def largest(measures: tuple[PromptMeasure, ...]) -> float:
    """The largest mean with any text encoder."""
    return round(max(measure.mean for measure in measures), 5)


if __name__ == "__main__":
    main()
