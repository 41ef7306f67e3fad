"""How far a training moves on another kind of processor, for ``verify --replay``.

``python -m benchmarks.replay`` trains the demo model by each gradient method, at its paper's rate
and at the comparison's, with this processor's instructions and with the oldest ones that its
libraries can do with, and prints how far the results are apart.  Fifteen minutes on two cores.
"""

import os
import subprocess
import sys
from math import hypot
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.comparison_tasks import RATES, STEPS
from erasepro_convert import demo
from erasepro_convert.manifest import Manifest, read_manifest
from erasepro_convert.recipe.methods import METHODS

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
"""Of torch's own kernels, oneDNN's and MKL's."""

HEADINGS = ("method", "rate", "first loss", "last loss", "update norm", "worst tensor's")


def main() -> None:
    """Print a row a training: relative deviations."""
    print(f"| {' | '.join(HEADINGS)} |")
    print("|---" * len(HEADINGS) + "|")
    for method, found in RATES.items():
        for rate in (METHODS[method].defaults["training"]["learning_rate"], found):
            new, old = _both(method, rate)
            assert new.trained
            assert old.trained
            losses = zip(new.trained.losses, old.trained.losses, strict=True)
            apart = [abs(a - b) / a for a, b in losses]
            norms = [
                (edit.update_norm, other.update_norm)
                for edit, other in zip(new.all_edits, old.all_edits, strict=True)
            ]
            whole = [hypot(*of) for of in zip(*norms, strict=True)]
            figures = [
                apart[0],
                apart[-1],
                abs(whole[0] - whole[1]) / whole[0],
                max(abs(a - b) / a for a, b in norms),
            ]
            cells = [method, f"{rate:g}", *(f"{figure:.2g}" for figure in figures)]
            print(f"| {' | '.join(cells)} |", flush=True)


def _both(method: str, rate: float) -> tuple[Manifest, Manifest]:
    said = {
        "version": 1,
        "name": "replay",
        "method": method,
        "concepts": [{"target": "snoopy", "anchor": "dog"}],
        "training": {"learning_rate": rate, "steps": STEPS},
        "limits": {"relative_update": None, "drift": None},
    }
    with TemporaryDirectory() as folder, demo.checkpoint() as base:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(said), encoding="utf-8")
        new = _trained(recipe, base, Path(folder) / "new.safetensors", {})
        return new, _trained(recipe, base, Path(folder) / "old.safetensors", OLD)


def _trained(recipe: Path, base: Path, target: Path, settings: dict[str, str]) -> Manifest:
    tool = Path(sys.executable).with_name("erasepro-convert")
    command = [*map(str, (tool, recipe, base, target)), "--quiet"]
    subprocess.run(command, env={**os.environ, **settings}, check=True)
    return read_manifest(target.with_suffix(".manifest.json"))


if __name__ == "__main__":
    main()
