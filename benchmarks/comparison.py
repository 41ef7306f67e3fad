"""Every method on every task of the demo model, for docs/comparison.md.

``python -m benchmarks.comparison`` measures what benchmarks/results/comparison.csv does not have
yet: a line a task, method, training seed, column and prompt, with a digit a picture (1: the judge
sees the class that the column looks for).  What a conversion cost, its leak and drift, or why there
is none, is in comparison-cost.csv.  A method that failed is not tried again until its line is
removed.  Several processes may run at once: each takes what none has yet.
``python -m benchmarks.comparison_page`` puts the tables into the page.
"""

import argparse
import csv
import fcntl
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Little is imported here: a conversion's process imports this file, and its memory is measured.
from benchmarks.comparison_tasks import (
    METHODS,
    NO_CLASS,
    RATES,
    SEEDS,
    STEPS,
    TASKS,
    TRAINED_TASKS,
    TRAINING_SEEDS,
    VARIED,
    WITH_TARGETS,
    Asked,
    columns_of,
    recipe_of,
    with_anchors,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.method_study import Studio

HITS = Path("benchmarks/results/comparison.csv")
COSTS = Path("benchmarks/results/comparison-cost.csv")
LOCKS = Path("build/comparison")
KEY = ("task", "method", "training_seed")
HITS_COLUMNS = (*KEY, "column", "concept", "prompt", "hits")
PROBED = ("leak_edited", "leak_stock", "drift_edited", "drift_stock")
COSTS_COLUMNS = (*KEY, "failed", "seconds", "peak_mb", *PROBED, "update")
ORIGINAL = "original"
IDEAL = "anchor's words"
"""The original, with the anchors' words in the place of the targets': what a model would draw that
reads each target as its anchor."""
Cell = tuple[str, str, str]
Line = dict[str, Any]


def main() -> None:
    """Measure what is not measured yet."""
    from erasepro_convert.runtime.library_logging import silence_libraries

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tasks", help="names with commas between them [all]")
    parser.add_argument("--methods", help="names with commas between them [all]")
    parser.add_argument("--hits", type=Path, default=HITS)
    parser.add_argument("--costs", type=Path, default=COSTS)
    args = parser.parse_args()
    silence_libraries()
    tasks = args.tasks.split(",") if args.tasks else list(TASKS)
    every = [ORIGINAL, IDEAL, *METHODS]
    methods = args.methods.split(",") if args.methods else every
    if unknown := {*tasks} - {*TASKS} | {*methods} - {*every}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    run([cell for cell in plan(METHODS) if cell[0] in tasks and cell[1] in methods], args)


def plan(methods: Sequence[str]) -> list[Cell]:
    """Task, method and training seed of each cell: what is quick first."""
    from erasepro_convert.recipe.methods import TRAINED

    quick = [ORIGINAL, IDEAL, *(method for method in methods if method not in TRAINED)]
    slow = [method for method in methods if method in TRAINED]
    return [
        *((task, method, "") for task in TASKS for method in quick),
        *((t, method, str(s)) for t in TRAINED_TASKS for s in TRAINING_SEEDS for method in slow),
    ]


def run(cells: Sequence[Cell], args: argparse.Namespace) -> None:
    """Measure cells that neither the files have nor another process works on."""
    from benchmarks.method_study import Studio
    from erasepro_convert.demo import checkpoint

    with locked("measuring", fcntl.LOCK_SH), checkpoint() as base:
        gallery = Gallery(Studio(base))
        for cell in cells:
            with locked("-".join(cell), fcntl.LOCK_EX) as is_ours:
                if not is_ours or cell in done(args.costs):
                    continue
                print(*cell, flush=True)
                hits, cost = gallery.measure(cell)
                append(args.hits, HITS_COLUMNS, hits)
                append(args.costs, COSTS_COLUMNS, [cost])  # last: it says that the cell is done


class Gallery:
    """Draws and judges the columns of a task; remembers the original's pictures of one task."""

    def __init__(self, studio: "Studio") -> None:
        self.studio = studio
        self.task = ""
        self.columns: Mapping[str, Sequence[Asked]] = {}
        self.originals: dict[tuple[str, int], dict[str, str]] = {}

    def measure(self, cell: Cell) -> tuple[list[Line], Line]:
        """The lines of a cell: hits, and costs."""
        from erasepro_convert.images.pipeline import load_pipeline

        task, method, training_seed = cell
        key = dict(zip(KEY, cell, strict=True))
        self._look_at_originals(task)
        if method == ORIGINAL:
            return self._hits(key, self.studio.original, self.columns), key
        if method == IDEAL:
            columns = {name: with_anchors(self.columns[name], task) for name in WITH_TARGETS}
            return self._hits(key, self.studio.original, columns), key
        with tempfile.TemporaryDirectory() as folder:
            erased = Path(folder, "erased.safetensors")
            cost = converted(task, method, training_seed, self.studio.file, erased)
            if "failed" in cost:
                return [], {**key, **cost}
            edits_text = cost.pop("edits_text")
            pipeline = load_pipeline(erased)[0]
            hits = self._hits(key, pipeline, self.columns, edits_text=edits_text)
            return hits, {**key, **cost}

    def _look_at_originals(self, task: str) -> None:
        """See what the original draws where other pictures are compared with it.

        Of two subjects, those seeds are kept with which the original draws the right one.
        """
        if task == self.task:
            return
        columns = dict(columns_of(task))
        compared = [*columns["anchor's own"], *columns["two subjects"]]
        seen = self._see(compared, self._draw(self.studio.original, compared))
        self.originals = {
            (one.prompt, seed): heads
            for one, of_prompt in zip(compared, seen, strict=True)
            for seed, heads in zip(one.seeds, of_prompt, strict=True)
        }
        kept = []
        for one in columns["two subjects"]:
            seeds = [s for s in one.seeds if self.originals[one.prompt, s]["thing"] == one.seen]
            if len(seeds) >= SEEDS:
                kept.append(replace(one, seeds=tuple(seeds[:SEEDS])))
        self.columns, self.task = {**columns, "two subjects": kept}, task

    def _hits(
        self,
        key: Line,
        pipeline: Any,
        columns: Mapping[str, Sequence[Asked]],
        *,
        edits_text: bool = False,
    ) -> list[Line]:
        """Draw columns with a model, and with the stock text encoder what is named."""
        from benchmarks.comparison_pictures import PICTURED, keep_pictures

        asked = [one for column in columns.values() for one in column]
        anchors = {target: NO_CLASS.get(anchor, anchor) for target, anchor in TASKS[self.task]}
        lines = []

        def add(one: Asked, hits: Iterable[bool]) -> None:
            said = {"column": one.column, "concept": one.concept, "prompt": one.prompt}
            lines.append({**key, **said, "hits": "".join("01"[hit] for hit in hits)})

        pictures = self._draw(pipeline, asked)
        is_first = key["training_seed"] in ("", str(TRAINING_SEEDS[0]))
        if self.task == PICTURED and is_first and key["method"] != IDEAL:
            keep_pictures(key["method"], asked, pictures)
        for one, seen in zip(asked, self._see(asked, pictures), strict=True):
            if one.seen is None:
                originals = [self.originals[one.prompt, seed] for seed in one.seeds]
                add(one, (a == b for a, b in zip(seen, originals, strict=True)))
            else:
                add(one, (heads[one.head] == one.seen for heads in seen))
            if one.column == "named":
                anchor = replace(one, column="anchor")
                add(anchor, (heads[one.head] == anchors[one.concept] for heads in seen))
        if not edits_text:  # the stock encoder is the one that was drawn with
            return [
                *lines,
                *({**r, "column": "named, stock"} for r in lines if r["column"] == "named"),
            ]
        named = columns["named"]
        pipeline.text_encoder, own = self.studio.stock_encoder, pipeline.text_encoder
        for one, seen in zip(named, self._see(named, self._draw(pipeline, named)), strict=True):
            add(replace(one, column="named, stock"), (h[one.head] == one.seen for h in seen))
        pipeline.text_encoder = own
        return lines

    def _draw(self, pipeline: Any, asked: Sequence[Asked]) -> "Tensor":
        """Draw the pictures of all prompts with all their seeds, prompt by prompt."""
        from erasepro_convert.images.generate import SeededPrompt

        jobs = [SeededPrompt(one.drawn or one.prompt, s) for one in asked for s in one.seeds]
        return self.studio.draw(pipeline, jobs)

    def _see(self, asked: Sequence[Asked], pictures: "Tensor") -> list[list[dict[str, str]]]:
        """Say what each head of the judge sees in each picture of each prompt."""
        seen = self.studio.judge.classify(pictures / 255)
        by_picture = zip(*seen.values(), strict=True)
        heads = (dict(zip(seen, classes, strict=True)) for classes in by_picture)
        return [[next(heads) for _ in one.seeds] for one in asked]


def converted(task: str, method: str, training_seed: str, base: Path, erased: Path) -> Line:
    """Convert, and say what it cost and what text features say of the result, or why it failed."""
    from benchmarks.method_study import text_side
    from erasepro_convert.compare.conversion import convert_measured
    from erasepro_convert.compare.variants import recipe_for_method
    from erasepro_convert.errors import RecipeError, UsageError
    from erasepro_convert.manifest import manifest_path, read_manifest
    from erasepro_convert.sd1.keys import TEXT

    training = {
        name: {"learning_rate": rate, "steps": STEPS * len(TASKS[task]), "seed": int(training_seed)}
        for name, rate in RATES.items()
        if training_seed
    }
    try:
        as_method, changes = VARIED.get(method, (method, {}))
        recipe = recipe_for_method(recipe_of(task), as_method, training).changed(**changes)
        cost = convert_measured(recipe, base, erased, lambda *_: None)
    except (UsageError, RecipeError, ValueError) as error:
        return {"failed": " ".join(str(error).split())}
    measured = {"seconds": cost.seconds, "peak_mb": round(cost.peak / 10**6)}
    manifest = read_manifest(manifest_path(erased))
    edits_text = any(edit.name.startswith(TEXT) for edit in manifest.all_edits)
    return {**measured, **text_side([manifest]), "edits_text": edits_text}


@contextmanager
def locked(name: str, kind: int) -> Iterator[bool]:
    """Whether this process has a lock of some name, until the end of the process at the latest."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def done(costs: Path) -> set[Cell]:
    """The cells that have been measured, or that failed."""
    return {cell_of(line) for line in read(costs)}


def cell_of(line: Mapping[str, str]) -> Cell:
    """The cell that a line is about."""
    return line["task"], line["method"], line["training_seed"]


def read(path: Path) -> list[dict[str, str]]:
    """The lines that are there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return list(csv.DictReader(file))


def append(path: Path, columns: Sequence[str], lines: Iterable[Line]) -> None:
    """Add lines at once, and the heading before the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not path.stat().st_size:
            writer.writeheader()
        writer.writerows(lines)
        file.flush()  # before the lock goes


if __name__ == "__main__":
    main()
