"""Equal deviations, shallow and deep (the paper's Fig. 2e, 5 and App. A.2), on the demo model.

``python -m benchmarks.deviations --csv FILE`` adds α‖W‖_F·I to the q, k and v weights of one
text-encoder layer at a time and counts in how many of 100 pictures the judge still sees what was
asked for; docs/method.md has the table.  About three minutes on two cores.
"""

import argparse
import csv
from pathlib import Path

import torch

from benchmarks.method_study import Studio
from erasepro_convert.demo import checkpoint, prompts
from tools.demo_model.measure import interleaved

LAYERS = range(1, 13)
ALPHAS = (0.2, 0.5, 1.0, 2.0)
IMAGES = 100


def main() -> None:
    """Print a line for each layer and α; write all as CSV."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--csv", type=Path, help="where the raw figures go")
    args = parser.parse_args()
    with checkpoint() as file:
        studio = Studio(file)
    named = [p for p in prompts() if p.role == "explicit" and p.head != "colour"]
    asked = interleaved(named)[:IMAGES]
    rows: list[tuple[str, str, str]] = []

    def measure(layer: str, *alphas: float) -> None:
        seen = studio.see(studio.original, asked)
        hits = sum(got == prompt.concept for prompt, got in zip(asked, seen, strict=True))
        for alpha in alphas:
            rows.append((layer, f"{alpha:g}", f"{hits}/{len(asked)}"))
            print(*rows[-1], flush=True)

    measure("none", *ALPHAS)
    weights = dict(studio.original.text_encoder.named_parameters())
    for layer in LAYERS:
        part = f"layers.{layer - 1}.self_attn."
        names = [f"{part}{kind}_proj.weight" for kind in "qkv"]
        chosen = [w for name, w in weights.items() if name.endswith(tuple(names))]
        originals = [w.detach().clone() for w in chosen]
        for alpha in ALPHAS:
            with torch.no_grad():
                for w, original in zip(chosen, originals, strict=True):
                    w.copy_(original + alpha * original.norm() * torch.eye(*original.shape))
            measure(str(layer), alpha)
        with torch.no_grad():
            for w, original in zip(chosen, originals, strict=True):
                w.copy_(original)
    if args.csv:
        with args.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("layer", "alpha", "seen"), *rows])


if __name__ == "__main__":
    main()
