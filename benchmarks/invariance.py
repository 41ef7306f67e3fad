"""What becomes of each method on files with the same pictures and other features.

``python -m benchmarks.invariance --csv FILE`` writes leak and drift of held-out prompts, the worse
of the two text encoders where both are held; docs/method.md has the table.  No picture is drawn; a
minute.
"""

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from benchmarks.method_settings import SETTINGS, TASKS
from benchmarks.method_study import recipe_of
from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.demo import checkpoint
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from tests.same_pictures import same_pictures

FILES: dict[str, dict[str, Any]] = {
    "demo": {},
    "offset 1.5": {"offset": 1.5},
    "offset 3": {"offset": 3},
    "gains and scales 2": {"gains": 2, "scales": 2},
    "all": {"offset": 3, "gains": 2, "scales": 2, "seed": 1},
}
METHODS: dict[str, dict[str, Any] | None] = {
    "defaults": SETTINGS["defaults"],
    "erasepro-modified": {"method": "erasepro-modified"},
    "tolerance 0.3": SETTINGS["tolerance 0.3"],
    "UCE, 1 template": SETTINGS["UCE, 1 template"],
    "UCE, 8 templates": SETTINGS["UCE, 8 templates"],
    "null-space": SETTINGS["null-space"],
    "Eq. 5, 1 template": SETTINGS["Eq. 5, 1 template"],
}


def main() -> None:
    """Print a line for each method, task and file; write all as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    args = parser.parse_args()
    rows: list[tuple[str, str, str, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, checkpoint() as shipped:
        state, paths = load_file(shipped), {}
        for name, settings in FILES.items():
            paths[name] = Path(folder, f"{name}.safetensors")
            save_file(same_pictures(state, **settings) if settings else state, paths[name])
        for method, setting in METHODS.items():
            for task in ("style", "five"):
                recipe = recipe_of(setting or {}, TASKS[task][0])
                for name, path in paths.items():
                    erasure = run_erasure(open_sd1_checkpoint(path), recipe, None, lambda *_: None)
                    leak, drift = worst(erasure)
                    rows.append((method, task, name, leak, drift))
                    print(f"{method}, {task}, {name}: {leak:.2f} / {drift:.2f}", flush=True)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("method", "task", "file", "leak", "drift"), *rows])


def worst(erasure: Erasure) -> tuple[float, float]:
    """Leak and drift with the text encoder that the recipe holds for and that is worse."""
    held = erasure.recipe.text_encoders
    means = []
    for measures in (erasure.probe.leak, erasure.probe.drift):
        by_encoder = {
            encoder: [m.mean for m in measures if m.feed.text_encoder == encoder]
            for encoder in held
        }
        means.append(max(sum(values) / len(values) for values in by_encoder.values()))
    return means[0], means[1]


if __name__ == "__main__":
    main()
