"""Equal deviations, shallow and deep (the paper's Fig. 2e, 5 and App. A.2), on the demo model.

``python -m benchmarks.deviations`` adds α‖W‖_F·I to the q, k and v weights of one text-encoder
layer at a time and prints in how many of 100 pictures the judge still sees what was asked for.
About three minutes on two cores.
"""

import torch

from benchmarks.method_study import Studio
from erasepro_convert.demo import checkpoint, prompts
from tools.demo_model.measure import interleaved

LAYERS = range(1, 13)
ALPHAS = (0.2, 0.5, 1.0, 2.0)
IMAGES = 100


def main() -> None:
    """Print a row a layer, a column an α."""
    with checkpoint() as file:
        studio = Studio(file)
    named = [p for p in prompts() if p.role == "explicit" and p.head != "colour"]
    asked = interleaved(named)[:IMAGES]

    def right() -> float:
        seen = studio.see(studio.original, asked)
        hits = sum(got == prompt.concept for prompt, got in zip(asked, seen, strict=True))
        return hits / len(asked)

    print(f"| layer | {' | '.join(f'α = {alpha:g}' for alpha in ALPHAS)} |")
    print("|---" * (1 + len(ALPHAS)) + "|")
    print(f"| none | {' | '.join([f'{right():.2f}'] * len(ALPHAS))} |")
    weights = dict(studio.original.text_encoder.named_parameters())
    for layer in LAYERS:
        part = f"layers.{layer - 1}.self_attn."
        names = [f"{part}{kind}_proj.weight" for kind in "qkv"]
        chosen = [w for name, w in weights.items() if name.endswith(tuple(names))]
        originals = [w.detach().clone() for w in chosen]
        rates = []
        for alpha in ALPHAS:
            with torch.no_grad():
                for w, original in zip(chosen, originals, strict=True):
                    w.copy_(original + alpha * original.norm() * torch.eye(*original.shape))
            rates.append(right())
        with torch.no_grad():
            for w, original in zip(chosen, originals, strict=True):
                w.copy_(original)
        print(f"| {layer} | {' | '.join(f'{rate:.2f}' for rate in rates)} |", flush=True)


if __name__ == "__main__":
    main()
