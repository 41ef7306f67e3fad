"""How far a training moves on another kind of processor, for ``verify --replay``.

``python -m benchmarks.replay`` trains the demo model by each gradient method with this processor's
instructions and with the oldest ones that its libraries can do with, and prints how far the
update norms of tensors are apart.  Ten minutes on two cores.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.comparison import RATES, STEPS
from erasepro_convert import demo
from erasepro_convert.manifest import Manifest, read_manifest

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
}
"""Of torch's own kernels, oneDNN's and MKL's."""


def main() -> None:
    """Print a row a method."""
    print("| method | steps | loss of the last step | largest deviation of an update norm |")
    print("|---|---|---|---|")
    for method, rate in RATES.items():
        with TemporaryDirectory() as folder, demo.checkpoint() as base:
            recipe = Path(folder) / "recipe.yaml"
            said = {
                "version": 1,
                "name": "replay",
                "method": method,
                "concepts": [{"target": "snoopy", "anchor": "dog"}],
                "training": {"learning_rate": rate, "steps": STEPS},
                "limits": {"relative_update": None, "drift": None},
            }
            recipe.write_text(yaml.safe_dump(said), encoding="utf-8")
            new, old = (
                _trained(recipe, base, Path(folder) / f"{name}.safetensors", settings)
                for name, settings in (("new", {}), ("old", OLD))
            )
        pairs = zip(new.all_edits, old.all_edits, strict=True)
        worst = max(abs(a.update_norm - b.update_norm) / a.update_norm for a, b in pairs)
        losses = [f"{one.trained.losses[-1]:.4f}" for one in (new, old) if one.trained]
        print(f"| {method} | {STEPS} | {' / '.join(losses)} | {worst:.2%} |", flush=True)


def _trained(recipe: Path, base: Path, target: Path, settings: dict[str, str]) -> Manifest:
    tool = Path(sys.executable).with_name("erasepro-convert")
    command = [*map(str, (tool, recipe, base, target)), "--quiet"]
    subprocess.run(command, env={**os.environ, **settings}, check=True)
    return read_manifest(target.with_suffix(".manifest.json"))


if __name__ == "__main__":
    main()
