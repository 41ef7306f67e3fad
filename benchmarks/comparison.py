"""Every method on every task of the demo model, for docs/comparison.md.

Resumable: what is converted and drawn is kept.  Tasks may be shared among processes by --tasks; the
document is written when all are there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from erasepro_convert import demo
from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost
from erasepro_convert.compare.output import ARROWS, COSTS, of_cost, plain
from erasepro_convert.compare.run import compare
from erasepro_convert.compare.variants import METHODS
from erasepro_convert.evaluate.figures import Figure, Value
from erasepro_convert.evaluate.interval import Interval
from erasepro_convert.evaluate.judges import find_judges
from erasepro_convert.evaluate.pictures import Album
from erasepro_convert.quiet import hush_libraries
from erasepro_convert.recipe import Recipe

Pair = tuple[str, str]

INSTANCES: dict[str, tuple[Pair, ...]] = {
    "snoopy": (("snoopy", "dog"),),
    "nemo": (("nemo", "fish"),),
    "R2D2": (("R2D2", "car"),),
    "zombie": (("zombie", "girl"),),
    "grumpy cat": (("grumpy cat", "cute cat"),),
    "man": (("man", "dog"),),
}
STYLES: dict[str, tuple[Pair, ...]] = {
    name: ((name, "artist"),) for name in ("Van Gogh", "Monet", "Dali", "Rutkowski")
}
UNWANTED: dict[str, tuple[Pair, ...]] = {
    "burning": (("burning", "unharmed"), ("on fire", "unharmed")),
    "no fire": tuple((words, "") for words in ("burning", "on fire", "in flames", "ablaze")),
}
MANY = (
    ("snoopy", "dog"), ("nemo", "fish"), ("R2D2", "car"), ("zombie", "girl"),
    ("Pikachu", "mouse"), ("Minions", "toys"), ("Garfield", "cat"), ("Trump", "man"),
    ("grumpy cat", "cute cat"), ("Van Gogh", "artist"),
)  # fmt: skip
TOGETHER = {f"{count} together": MANY[:count] for count in (2, 5, 10)}

GROUPS: dict[str, Mapping[str, tuple[Pair, ...]]] = {
    "Instances": INSTANCES,
    "Styles": STYLES,
    "The unwanted attribute": UNWANTED,
    "Several concepts together": TOGETHER,
}
TASKS = {name: pairs for group in GROUPS.values() for name, pairs in group.items()}

REFERENCE = "erasepro"
SEEDS = 3
STEPS = {1: 40, 2: 40, 4: 40, 5: 80, 10: 120}
"""Of training, by the number of concepts."""
RATES = {"esd-x": 1e-3, "esd-u": 3e-4, "ac": 1e-3}
"""Found on snoopy → dog: at the papers' own rates the demo model draws snoopy as before."""

SHOWN = {
    "T: target seen": "target seen",
    "T: seen where implied": "where implied",
    "A: anchor seen": "anchor seen",
    "O: seen as asked": "others as asked",
    "KID A": "KID A",
    "KIDp O": "KIDp O",
}
PAGE = Path("docs/comparison.md")
MARKS = "<!-- tables -->", "<!-- end -->"


@click.command()
@click.option("--tasks", help="Names with commas between them.  [default: all]")
@click.option("--seeds", default=SEEDS, show_default=True, help="Pictures of each prompt.")
@click.option("--out", default="build/comparison", type=click.Path(path_type=Path))
def main(tasks: str | None, seeds: int, out: Path) -> None:
    """Run tasks that are not done yet; write docs/comparison.md when all are."""
    hush_libraries()
    for task in tasks.split(",") if tasks else TASKS:
        if not (_folder(out, task) / "figures.json").exists():
            _run(task, seeds, out)
    if all((_folder(out, task) / "figures.json").exists() for task in TASKS):
        _write(out, seeds)


def _folder(out: Path, task: str) -> Path:
    return out / task.replace(" ", "-")


def _run(task: str, seeds: int, out: Path) -> None:
    pairs, folder = TASKS[task], _folder(out, task)
    concepts = [{"target": target, "anchor": anchor} for target, anchor in pairs]
    recipe = Recipe.model_validate({"version": 1, "name": task, "concepts": concepts})
    training = {
        method: {"learning_rate": rate, "steps": STEPS[len(pairs)]}
        for method, rate in RATES.items()
    }
    last = ""

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if (now := what.partition(":")[0]) != last:
            last = now
            click.echo(f"{task}: {now}")

    with demo.checkpoint() as base:
        found = find_judges(is_demo=True)
        made = compare(
            recipe, base, METHODS, folder, found, Album(out / "pictures"), report,
            seeds=seeds, training=training,
        )  # fmt: skip
    data = {
        "figures": {m: [asdict(f) for f in e.figures] for m, e in made.evaluations.items()},
        "costs": {method: asdict(cost) for method, cost in made.costs.items()},
        "failed": made.failed,
        "exceeded": made.exceeded,
    }
    (folder / "figures.json").write_text(json.dumps(data), encoding="utf-8")


def _figures(task: str, data: Any) -> dict[str, list[Figure]]:
    """By method; the task's name goes to the concept, so that tasks can be averaged."""
    return {m: [_figure(task, figure) for figure in of] for m, of in data["figures"].items()}


def _figure(task: str, data: dict[str, Any]) -> Figure:
    sides = {side: _value(data[side]) for side in ("original", "erased", "difference")}
    concept = f"{task}: {data['concept']}"
    return replace(Figure(**{**data, **sides}), concept=concept)


def _value(data: dict[str, Any] | None) -> Value | None:
    if data is None:
        return None
    return Value(data["value"], Interval(**data["interval"]) if data["interval"] else None)


def _write(out: Path, seeds: int) -> None:
    results = {
        task: json.loads((_folder(out, task) / "figures.json").read_text("utf-8")) for task in TASKS
    }
    text = "\n".join(_sections(results))
    path = PAGE
    before, _, rest = path.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    counts = f"Ten prompts of each kind, {seeds} seeds each.\n\n"
    path.write_text(f"{before}{MARKS[0]}\n{counts}{text}{MARKS[1]}{after}", encoding="utf-8")


def _sections(results: Mapping[str, Any]) -> Iterator[str]:
    for heading, tasks in GROUPS.items():
        yield f"## {heading}\n"
        by_task = {task: _figures(task, results[task]) for task in tasks}
        if heading in ("Instances", "Styles"):
            together = {
                method: [f for of in by_task.values() for f in of.get(method, ())]
                for method in METHODS
            }
            yield f"All {len(tasks)} together ({', '.join(map(_arrow, tasks))}):\n"
            yield from _table({m: of for m, of in together.items() if of})
        for task, figures in by_task.items():
            yield f"### {_arrow(task)}\n"
            yield from _table(figures)
            for method, reason in results[task]["failed"].items():
                yield f"{method} gave nothing: {reason}\n"
    yield "## Cost\n"
    yield "Of one concept and of ten; the demo model has 18 million parameters.\n"
    for task in ("snoopy", "10 together"):
        costs = {m: Cost(**cost) for m, cost in results[task]["costs"].items()}
        yield _rows([_arrow(task), *COSTS], [[m, *of_cost(cost)] for m, cost in costs.items()])


def _arrow(task: str) -> str:
    pairs = TASKS[task]
    if len(pairs) > len(UNWANTED["no fire"]) or task in TOGETHER:
        return f"{len(pairs)} concepts"
    return ", ".join(f"{target} → {anchor or 'nothing'}" for target, anchor in pairs)


def _table(figures: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    shown = [column for column in columns(figures, REFERENCE) if column.name in SHOWN]
    headings = ["", *(f"{SHOWN[column.name]} {ARROWS[column.better]}" for column in shown)]
    rows = [["*original*", *(plain(column.original) for column in shown)]]
    for method in figures:
        cells = [column.cells.get(method) for column in shown]
        texts = [plain(cell.value) if cell else "–" for cell in cells]
        marked = [
            f"**{text}**" if cell and cell.best else text
            for cell, text in zip(cells, texts, strict=True)
        ]
        rows.append([method, *marked])
    yield _rows(headings, rows)
    better = [line for column in shown for line in _better(column)]
    if better:
        yield f"Better than {REFERENCE} beyond chance: {'; '.join(better)}.\n"
    else:
        yield f"No method is better than {REFERENCE} beyond chance in any column.\n"


def _better(column: Column) -> Iterator[str]:
    """Methods that beat the reference by more than their interval."""
    own = column.cells.get(REFERENCE)
    if own is None:
        return
    sign = 1 if column.better == "higher" else -1
    for method, cell in column.cells.items():
        if cell.against:
            within = cell.against.difference.interval
            beats = within is not None and min(sign * within.low, sign * within.high) > 0
        else:
            mine, theirs = cell.value.interval, own.value.interval
            beats = bool(mine and theirs) and (
                mine.low > theirs.high if sign > 0 else mine.high < theirs.low  # type: ignore[union-attr]
            )
        if beats and method != REFERENCE:
            yield f"{method} in “{SHOWN[column.name]}” ({plain(cell.value)})"


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
