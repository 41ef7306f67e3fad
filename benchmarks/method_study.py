"""The study behind the defaults: settings on tasks of the demo model and its variants, judged.

``python -m benchmarks.method_study`` fills benchmarks/method_study.csv, a line a file, task and
setting; lines that are there are kept, so that it can be stopped and go on.  About two minutes a
line on one core.  ``python -m benchmarks.figures`` puts what it found into the pages.

A setting is what a recipe says beside its concepts.  Each line counts 100 pictures a column, with
the edited text encoder and for targets with the stock one, too:

- explicit, implicit: prompts that name the target, and prompts that only imply it;
- neighbours: concepts that are like the target, its anchor among them;
- beside: what else a prompt asks for that names a target ("a burning car": the car);
- anchor colours: the anchor in a colour; colours, others: all other prompts;
- unnamed: what no prompt names that is retained or calibrated on: purple, Seurat, two things.
"""

import argparse
import csv
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.method_settings import (
    ENCODERS,
    FILES,
    FIRE,
    HELD,
    NEIGHBOURS,
    PLAN,
    RESULTS,
    SETTINGS,
    TASKS,
    Pairs,
)
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import Prompt, checkpoint, load_classifier, prompts
from erasepro_convert.errors import LimitError
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS
from tests.same_pictures import same_pictures
from tools.demo_model.measure import interleaved

SAMPLING = Sampling(steps=8, guidance=4.0)
NO_LIMITS = {"leak": None, "drift": None, "relative_update": None}
INSTEAD = {"artist": "none", "unharmed": "none", "": "none"}
"""What the judge's head sees where an anchor is drawn that is no class of its own."""
COLUMNS = (
    "file", "task", "setting",
    *(f"{rate}_{encoder}" for encoder in ENCODERS for rate in ("explicit", "anchor", "implicit")),
    *HELD, *(f"{name}_{encoder}" for encoder in ENCODERS for name in ("leak", "drift")), "update",
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
    """A file and the demo's judge; draws what prompts show with an erased model."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.judge = load_classifier()
        self.original, self.architecture = load_pipeline(file)
        self.stock_encoder = self.original.text_encoder

    def measure(
        self, setting: dict[str, Any] | None, task: list[Pairs], images: int
    ) -> dict[str, Any]:
        """One line of the study: the recipes of a task share its pictures."""
        counts: dict[str, Count] = defaultdict(Count)
        manifests = []
        for pairs in task:
            asked = asked_for(recipe_of({}, pairs))
            if setting is None:
                self._count(pairs, asked, self.original, images // len(task), counts)
                continue
            with tempfile.TemporaryDirectory() as folder:
                erased = Path(folder, "erased.safetensors")
                recipe = recipe_of(setting, pairs)
                manifests.append(convert(recipe, self.file, erased, Options(), lambda *_: None))
                pipeline = load_pipeline(erased)[0]
                self._count(pairs, asked, pipeline, images // len(task), counts)
        return {
            **{name: f"{c.hits}/{c.pictures}" for name, c in counts.items()},
            **(text_side(manifests) if manifests else {}),
        }

    def _count(
        self,
        pairs: Pairs,
        asked: Mapping[str, list[Prompt]],
        pipeline: Any,
        images: int,
        counts: dict[str, Count],
    ) -> None:
        anchors = {target: INSTEAD.get(anchor, anchor) for target, anchor in pairs}
        anchors |= {"burning": "none"}
        encoders = {"edited": pipeline.text_encoder, "stock": self.stock_encoder}
        for encoder, module in encoders.items():
            pipeline.text_encoder = module
            for column, selected in asked.items():
                if (encoder == "stock" and column in HELD) or not selected:
                    continue
                drawn = list(islice(cycle(interleaved(selected)), images))
                seen = list(zip(drawn, self.see(pipeline, drawn), strict=True))
                name = column if column in HELD else f"{column}_{encoder}"
                counts[name].add(got == prompt.concept for prompt, got in seen)
                if column == "explicit":
                    hits = (got == anchors[prompt.concept] for prompt, got in seen)
                    counts[f"anchor_{encoder}"].add(hits)

    def see(self, pipeline: Any, asked: list[Prompt]) -> list[str]:
        """What the judge sees, by the head that each prompt is about."""
        jobs = [SeededPrompt(prompt.prompt, seed) for seed, prompt in enumerate(asked)]
        seen = self.judge.classify(self.draw(pipeline, jobs) / 255)
        return [seen[prompt.head][i] for i, prompt in enumerate(asked)]

    def draw(self, pipeline: Any, jobs: list[SeededPrompt]) -> torch.Tensor:
        """Pictures (n × 3 × size × size, uint8)."""
        with torch.inference_mode():
            return generate(pipeline, self.architecture, jobs, SAMPLING, lambda _: None)


def asked_for(recipe: Recipe) -> dict[str, list[Prompt]]:
    """What is asked for in each column."""
    every = prompts()
    targets, anchors = (
        {getattr(c, part) for c in recipe.concepts} for part in ("target", "anchor")
    )
    if targets & set(FIRE):  # one attribute, whatever word names it
        targets.add("burning")
    free = set(recipe.without_targets(tuple(p.prompt for p in every)))
    kept = [p for p in every if p.concept not in targets and p.prompt in free]
    like = {name for group in NEIGHBOURS if targets & set(group) for name in group}
    colours = [p for p in kept if p.head == "colour"]
    others = [p for p in kept if p.head != "colour" and p.role == "explicit"]
    said = set(re.findall(r"\w+", " ".join(DRIFT_PROMPTS).lower()))
    return {
        "explicit": [p for p in every if p.concept in targets and p.role == "explicit"],
        "implicit": [p for p in every if p.concept in targets and p.role == "implicit"],
        "neighbours": [p for p in others if p.concept in like],
        "beside": list(_beside(targets, others)),
        "anchor colours": [
            Prompt(colour, "colour", "explicit", f"{phrase} {colour} {anchor}")
            for anchor in sorted(anchors & {p.concept for p in every if p.head == "thing"})
            for phrase in ("a", "a photo of a", "one")
            for colour in sorted({p.concept for p in colours})
        ],
        "colours": colours,
        "others": others,
        "unnamed": [p for p in (*others, *colours) if said >= set(p.concept.lower().split())],
    }


def _beside(targets: set[str], others: list[Prompt]) -> Iterator[Prompt]:
    """Prompts that name a target, and something else that must be seen."""
    heads = {p.concept: p.head for p in prompts()}
    kept = {
        head: sorted({p.concept for p in others if p.head == head}) for head in ("thing", "style")
    }
    for target in sorted(targets & set(heads)):
        if heads[target] == "thing":
            for style in kept["style"]:
                yield Prompt(style, "style", "explicit", f"{target} in the style of {style}")
        else:
            is_style = heads[target] == "style"
            template = "a painting of a {0} by {1}" if is_style else "a {1} {0}"
            for thing in kept["thing"]:
                yield Prompt(thing, "thing", "explicit", template.format(thing, target))


def recipe_of(setting: dict[str, Any], pairs: Pairs) -> Recipe:
    """The recipe of a setting for some concept pairs; some keys go to each concept."""
    setting = dict(setting)
    own = {key: setting.pop(key) for key in ("prompts", "synonyms") if key in setting}
    concepts = [{"target": target, "anchor": anchor, **own} for target, anchor in pairs]
    data = {"version": 1, "name": "study", "concepts": concepts, "limits": NO_LIMITS, **setting}
    return Recipe.model_validate(data)


@contextmanager
def studios() -> Iterator[Mapping[str, Path]]:
    """The files of the study, by their names."""
    with tempfile.TemporaryDirectory() as folder, checkpoint() as shipped:
        state = load_file(shipped)
        made = {}
        for name, settings in FILES.items():
            made[name] = Path(folder, f"{name}.safetensors")
            save_file(same_pictures(state, **settings) if settings else state, made[name])
        yield made


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
    updates = (edit.relative_update for m in manifests for edit in m.all_edits)
    return {**result, "update": round(max(updates), 4)}


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=int, default=100, help="pictures a column [100]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"))
    args = parser.parse_args()
    done = {(line["file"], line["task"], line["setting"]) for line in read(args.results)}
    number, parts = args.part
    with studios() as paths:
        made: dict[str, Studio] = {}
        for file, task, setting in PLAN[number::parts]:
            if (file, task, setting) in done:
                continue
            studio = made.setdefault(file, Studio(paths[file]))
            try:
                line = studio.measure(SETTINGS[setting], TASKS[task], args.images)
            except LimitError as error:  # no file, so nothing to judge
                print(f"{file}, {task}, {setting}: {error}", flush=True)
                continue
            append(args.results, {"file": file, "task": task, "setting": setting, **line})


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
