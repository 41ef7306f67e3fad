"""What float32 changes where matrices are calibrated: ``python -m benchmarks.precision``.

Erases one concept from a full-size random checkpoint twice, with features and products in float32
and in float64, and compares the weights as they are stored: how far they are apart, as a share of
what storing rounds them by.  With Algorithm 2 each matrix is solved from features of unedited
layers, so that a matrix shows its own arithmetic alone.  With Algorithm 1 a weight that is rounded
to its other neighbour changes what all deeper layers read.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from unittest.mock import PropertyMock, patch

import torch
from torch import Tensor

from benchmarks.convert import make_checkpoint, recipe_of
from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.erase.form import Form
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.progress import silent
from erasepro_convert.sd1.keys import TEXT
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint

METHODS = {"erasepro-modified": "Algorithm 2", "erasepro": "Algorithm 1"}


def main() -> None:
    """Print a line for each algorithm and each half of the model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dtype", default="fp16", help="of the checkpoint [fp16]")
    parser.add_argument("--folder", type=Path, help="where to work [a temporary folder]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        source, file = Path(name, "in.safetensors"), Path(name, "recipe.yaml")
        make_checkpoint(source, args.dtype)
        print("| | matrices | median | most | leak | drift |")
        print("|---" * 6 + "|")
        for method, algorithm in METHODS.items():
            file.write_text(recipe_of(["Van Gogh"]) + f"method: {method}\n", encoding="utf-8")
            single, double = (erased(source, file, t) for t in (torch.float32, torch.float64))
            for part, is_text in (("text encoder", True), ("cross-attention", False)):
                shares = [
                    distance(edit.weight, double.edits[name].weight)
                    for name, edit in single.edits.items()
                    if name.startswith(TEXT) == is_text
                ]
                print(
                    f"| {algorithm}, {part} | {len(shares)} | {statistics.median(shares):.3f} "
                    f"| {max(shares):.3f} | {worst(single, double, 'leak'):.1e} "
                    f"| {worst(single, double, 'drift'):.1e} |",
                    flush=True,
                )


def erased(source: Path, recipe: Path, precision: torch.dtype) -> Erasure:
    """Erase with features and products in one precision."""
    with patch.object(Form, "precision", PropertyMock(return_value=precision)):
        return run_erasure(
            open_sd1_checkpoint(source), load_recipe(recipe), None, silent, anew=True
        )


def distance(one: Tensor, other: Tensor) -> float:
    """How far weights are apart, as a share of the distance that rounding moves them by.

    Rounding moves a weight by a root mean square of its unit in the last place / √12.
    """
    exponent = torch.frexp(other.float()).exponent
    unit = torch.finfo(other.dtype).eps * torch.exp2(exponent.double() - 1)
    unit = unit.clamp(min=torch.finfo(other.dtype).smallest_normal * torch.finfo(other.dtype).eps)
    apart = torch.linalg.vector_norm(one.double() - other.double())
    return float(apart / torch.linalg.vector_norm(unit) * 12**0.5)


def worst(one: Erasure, other: Erasure, measure: str) -> float:
    """The largest difference of a measure, in any feed."""
    pairs = zip(getattr(one.probe, measure), getattr(other.probe, measure), strict=True)
    return max(abs(float(a.mean - b.mean)) for a, b in pairs)


if __name__ == "__main__":
    main()
