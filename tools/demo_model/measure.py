"""Measure the demo model with its judge: how often a picture shows what its prompt asks for."""

import argparse
from collections import defaultdict
from itertools import cycle, islice
from pathlib import Path

import torch

from erasepro_convert.demo import Prompt, load_classifier, prompts
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline

PER_ROW = 240
ROWS = {
    "things, named": ("thing", "explicit"),
    "things, implied": ("thing", "implicit"),
    "styles, named": ("style", "explicit"),
    "styles, implied": ("style", "implicit"),
    "attribute, named": ("attribute", "explicit"),
    "attribute, implied": ("attribute", "implicit"),
    "colours": ("colour", "explicit"),
}


def interleaved(selected: list[Prompt]) -> list[Prompt]:
    """Concepts by turns, so that a cut takes as many prompts of each."""
    by_concept = defaultdict(list)
    for prompt in selected:
        by_concept[prompt.concept].append(prompt)
    lists = list(by_concept.values())
    return [part[i] for i in range(max(map(len, lists))) for part in lists if i < len(part)]


def main() -> None:
    """Print a line a row, with the concepts that are seen least."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=PER_ROW, help="pictures a row")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    judge = load_classifier()
    print("judge on unseen drawings:", {h: round(a, 4) for h, a in judge.accuracy.items()})
    pipeline, architecture = load_pipeline(args.checkpoint)
    for name, (head, role) in ROWS.items():
        selected = interleaved([p for p in prompts() if p.head == head and p.role == role])
        asked = list(islice(cycle(selected), args.images))
        jobs = [SeededPrompt(p.prompt, seed) for seed, p in enumerate(asked)]
        with torch.inference_mode():
            pictures = generate(
                pipeline, architecture, jobs, Sampling(args.steps, args.guidance), lambda _: None
            )
        seen = judge.classify(pictures / 255)[head]
        right = defaultdict(list)
        for prompt, got in zip(asked, seen, strict=True):
            right[prompt.concept].append(got == prompt.concept)
        rates = {concept: sum(hits) / len(hits) for concept, hits in right.items()}
        overall = sum(map(sum, right.values())) / len(asked)
        worst = sorted(rates.items(), key=lambda item: item[1])[:4]
        least = ", ".join(f"{concept} {rate:.2f}" for concept, rate in worst)
        print(f"{name:<20} {overall:.3f} of {len(asked)}   least: {least}", flush=True)


if __name__ == "__main__":
    main()
