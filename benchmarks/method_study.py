"""The study behind the defaults: every setting on every task of the demo model, judged.

``python -m benchmarks.method_study`` fills benchmarks/method_study.csv, a line a setting and task;
lines that are there are kept, so that it can be stopped and go on.  About half a minute a line on
two cores.  ``python -m benchmarks.method_tables`` prints the tables of docs/method.md from it.

A setting is what a recipe says beside its concepts.  Each line counts 100 pictures a column: target
prompts that name it, target prompts that only imply it, prompts of other concepts and of colours;
with the edited text encoder and with the stock one beside the edited U-Net.
"""

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from math import sqrt
from pathlib import Path
from typing import Any

import torch

from benchmarks.method_settings import FIRE, PLAN, SETTINGS, TASKS, Pairs
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import Prompt, checkpoint, load_classifier, prompts
from erasepro_convert.errors import LimitError
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe import Recipe
from tools.demo_model.measure import interleaved

RESULTS = Path(__file__).with_name("method_study.csv")
SAMPLING = Sampling(steps=8, guidance=4.0)
NO_LIMITS = {"leak": None, "drift": None, "relative_update": None}
INSTEAD = {"artist": "none", "unharmed": "none"}
"""What the judge's head sees where an anchor is drawn that is no class of its own."""
ENCODERS = ("edited", "stock")
RATES = ("explicit", "anchor", "implicit", "others", "colours")
COLUMNS = (
    "task", "setting", *[f"{rate}_{encoder}" for encoder in ENCODERS for rate in RATES][:-1],
    *(f"{name}_{encoder}" for encoder in ENCODERS for name in ("leak", "drift")), "update",
)  # fmt: skip


@dataclass
class Count:
    """Hits among pictures."""

    hits: int = 0
    pictures: int = 0

    def add(self, hits: Iterable[bool]) -> None:
        """Count some more."""
        for hit in hits:
            self.hits += hit
            self.pictures += 1


class Studio:
    """The demo model and its judge; draws what prompts show with an erased model."""

    def __init__(self) -> None:
        self.judge = load_classifier()
        self.prompts = prompts()
        with checkpoint() as file:
            self.original, self.architecture = load_pipeline(file)
        self.stock_encoder = self.original.text_encoder

    def measure(
        self, setting: dict[str, Any] | None, task: list[Pairs], images: int
    ) -> dict[str, Any]:
        """One line of the study: the recipes of a task share its pictures."""
        counts: dict[str, Count] = defaultdict(Count)
        manifests = []
        for pairs in task:
            recipe = recipe_of(setting or {}, pairs)
            if setting is None:
                self._count(recipe, self.original, images // len(task), counts)
                continue
            with tempfile.TemporaryDirectory() as folder, checkpoint() as source:
                erased = Path(folder, "erased.safetensors")
                manifests.append(convert(recipe, source, erased, Options(), lambda *_: None))
                self._count(recipe, load_pipeline(erased)[0], images // len(task), counts)
        return {
            **{name: f"{c.hits}/{c.pictures}" for name, c in counts.items()},
            **(text_side(manifests) if manifests else {}),
        }

    def _count(self, recipe: Recipe, pipeline: Any, images: int, counts: dict[str, Count]) -> None:
        encoders = {"edited": pipeline.text_encoder, "stock": self.stock_encoder}
        targets = {c.target for c in recipe.concepts}
        anchors = {c.target: INSTEAD.get(c.anchor, c.anchor) for c in recipe.concepts}
        if targets & set(FIRE):  # one attribute, whatever word names it
            targets, anchors = {*targets, "burning"}, {**anchors, "burning": "none"}
        kept = set(recipe.without_targets(tuple(p.prompt for p in self.prompts)))
        named = [p for p in self.prompts if p.concept in targets and p.role == "explicit"]
        implied = [p for p in self.prompts if p.concept in targets and p.role == "implicit"]
        others = [p for p in self.prompts if p.concept not in targets and p.prompt in kept]
        colours = [p for p in others if p.head == "colour"]
        others = [p for p in others if p.head != "colour" and p.role == "explicit"]
        for encoder, module in encoders.items():
            pipeline.text_encoder = module
            for column, selected in (
                ("explicit", named), ("implicit", implied), ("others", others),
                ("colours", colours),
            ):  # fmt: skip
                if column == "colours" and encoder == "stock":
                    continue  # others say it
                asked = list(islice(cycle(interleaved(selected)), images))
                seen = self.see(pipeline, asked)
                pairs = list(zip(asked, seen, strict=True))
                counts[f"{column}_{encoder}"].add(got == p.concept for p, got in pairs)
                if column == "explicit":
                    hits = (got == anchors[p.concept] for p, got in pairs)
                    counts[f"anchor_{encoder}"].add(hits)

    def see(self, pipeline: Any, asked: list[Prompt]) -> list[str]:
        """What the judge sees, by the head that each prompt is about."""
        jobs = [SeededPrompt(prompt.prompt, seed) for seed, prompt in enumerate(asked)]
        with torch.inference_mode():
            pictures = generate(pipeline, self.architecture, jobs, SAMPLING, lambda _: None)
        seen = self.judge.classify(pictures / 255)
        return [seen[prompt.head][i] for i, prompt in enumerate(asked)]


def recipe_of(setting: dict[str, Any], pairs: list[tuple[str, str]]) -> Recipe:
    """The recipe of a setting for some concept pairs; ``prompts`` goes to each concept."""
    setting = dict(setting)
    if setting.get("tolerance", 0) is None:
        setting["tolerance"] = 0.1 * sqrt(len(pairs))
    templates = {"prompts": setting.pop("prompts")} if "prompts" in setting else {}
    concepts = [{"target": target, "anchor": anchor, **templates} for target, anchor in pairs]
    data = {"version": 1, "name": "study", "concepts": concepts, "limits": NO_LIMITS, **setting}
    return Recipe.model_validate(data)


def text_side(manifests: list[Manifest]) -> dict[str, float]:
    """Leak and drift by text encoder, means over the recipes; the largest relative update."""
    result = {}
    for encoder in ENCODERS:
        for name in ("leak", "drift"):
            values = [
                measure.mean
                for manifest in manifests
                for measure in getattr(manifest.probe, name)
                if measure.feed.text_encoder == encoder
            ]
            result[f"{name}_{encoder}"] = round(sum(values) / len(values), 4)
    updates = (edit.relative_update for m in manifests for edit in m.edits)
    return {**result, "update": round(max(updates), 4)}


def main() -> None:
    """Measure what is not measured yet, or print the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(PLAN))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS)
    parser.add_argument("--images", type=int, default=100, help="pictures a column [100]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    done = {(line["task"], line["setting"]) for line in read(args.results)}
    studio = Studio()
    for task in args.tasks:
        for setting in args.settings or PLAN[task]:
            if (task, setting) not in done:
                try:
                    line = studio.measure(SETTINGS[setting], TASKS[task], args.images)
                except LimitError as error:  # no file, so nothing to judge
                    print(f"{task}, {setting}: {error}", flush=True)
                    continue
                append(args.results, {"task": task, "setting": setting, **line})


def read(path: Path) -> list[dict[str, str]]:
    """The lines that are there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line, and the heading before the first."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(line)


if __name__ == "__main__":
    main()
