"""What becomes of each method on files with the same pictures and other features.

``python -m benchmarks.invariance`` prints the table of docs/method.md: leak and drift of held-out
prompts, the worse of the two text encoders where both are held.  No picture is drawn; a minute.
"""

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
    """Print a row a method and task, a column a file: leak / drift."""
    print(f"| method | task | {' | '.join(FILES)} |")
    print("|---" * (2 + len(FILES)) + "|")
    with tempfile.TemporaryDirectory() as folder, checkpoint() as shipped:
        state, paths = load_file(shipped), {}
        for name, settings in FILES.items():
            paths[name] = Path(folder, f"{name}.safetensors")
            save_file(same_pictures(state, **settings) if settings else state, paths[name])
        for method, setting in METHODS.items():
            for task in ("style", "five"):
                recipe = recipe_of(setting or {}, TASKS[task][0])
                cells = []
                for path in paths.values():
                    checkpoint_file = open_sd1_checkpoint(path)
                    cells.append(worst(run_erasure(checkpoint_file, recipe, None, lambda *_: None)))
                print(f"| {method} | {task} | {' | '.join(cells)} |", flush=True)


def worst(erasure: Erasure) -> str:
    """Leak and drift with the text encoder that the recipe holds for and that is worse."""
    held = erasure.recipe.text_encoders
    means = []
    for measures in (erasure.probe.leak, erasure.probe.drift):
        by_encoder = {
            encoder: [m.mean for m in measures if m.feed.text_encoder == encoder]
            for encoder in held
        }
        means.append(max(sum(values) / len(values) for values in by_encoder.values()))
    return f"{means[0]:.2f} / {means[1]:.2f}"


if __name__ == "__main__":
    main()
