"""The tables of docs/comparison.md, from what benchmarks/comparison.py found."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.comparison import GROUPS, TASKS, TOGETHER, UNWANTED
from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost
from erasepro_convert.compare.output import (
    COSTS,
    HEADINGS,
    csv_lines,
    markdown,
    of_cell,
    of_cost,
    plain,
)
from erasepro_convert.evaluate.figures import ARROWS, Figure, Value
from erasepro_convert.evaluate.interval import Interval

REFERENCE = "erasepro"
SHOWN = {
    "T: target seen": "target seen",
    "T: seen where implied": "where implied",
    "A: anchor seen": "anchor seen",
    "O: seen as asked": "others as asked",
    "KID A": "KID A",
    "KIDp O": "KIDp O",
}
PAGE = Path("docs/comparison.md")
FIGURES = Path("benchmarks/results/comparison.csv")
MARKS = "<!-- tables -->", "<!-- end -->"


def write(results: Mapping[str, Any], seeds: int) -> None:
    """Put tables between the page's markers, and figures into a file; results are by task."""
    text = "\n".join(_sections(results))
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    counts = f"Ten prompts of each kind (of implied ones six), {seeds} seeds each.\n\n"
    PAGE.write_text(f"{before}{MARKS[0]}\n{counts}{text}{MARKS[1]}{after}", encoding="utf-8")
    with FIGURES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", *HEADINGS])
        for task, data in results.items():
            for column in _shown(_figures(task, data)):
                writer.writerows([task, *cells] for cells in csv_lines(column))


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


def _sections(results: Mapping[str, Any]) -> Iterator[str]:
    for heading, tasks in GROUPS.items():
        yield f"## {heading}\n"
        by_task = {task: _figures(task, results[task]) for task in tasks}
        if heading in ("Instances", "Styles"):
            for methods in dict.fromkeys(tuple(of) for of in by_task.values()):
                some = [task for task, of in by_task.items() if set(methods) <= of.keys()]
                if len(some) == 1:
                    continue
                yield f"The average of {', '.join(map(_arrow, some))}:\n"
                yield from _table({m: [f for t in some for f in by_task[t][m]] for m in methods})
        for task, figures in by_task.items():
            yield f"### {_arrow(task)}\n"
            yield from _table(figures)
            for method, reason in results[task]["failed"].items():
                yield f"{method} gave nothing: {reason}\n"
    yield "## Cost\n"
    yield "Of five concepts and of ten; the demo model has 18 million parameters.\n"
    for task in ("5 together", "10 together"):
        costs = {m: Cost(**cost) for m, cost in results[task]["costs"].items()}
        yield markdown([_arrow(task), *COSTS], [[m, *of_cost(cost)] for m, cost in costs.items()])


def _arrow(task: str) -> str:
    pairs = TASKS[task]
    if len(pairs) > len(UNWANTED["no fire"]) or task in TOGETHER:
        return f"{len(pairs)} concepts"
    return ", ".join(f"{target} → {anchor or 'nothing'}" for target, anchor in pairs)


def _table(figures: Mapping[str, Sequence[Figure]]) -> Iterator[str]:
    shown = _shown(figures)
    headings = ["", *(f"{SHOWN[column.name]} {ARROWS[column.better]}" for column in shown)]
    rows = [["*original*", *(plain(column.original) for column in shown)]]
    rows += [[m, *(of_cell(column.cells.get(m)) for column in shown)] for m in figures]
    yield markdown(headings, rows)
    better = [line for column in shown for line in _better(column)]
    if better:
        yield f"Better than {REFERENCE} beyond chance: {'; '.join(better)}.\n"
    else:
        yield f"No method is better than {REFERENCE} beyond chance in any column.\n"


def _shown(figures: Mapping[str, Sequence[Figure]]) -> list[Column]:
    return [column for column in columns(figures, REFERENCE) if column.name in SHOWN]


def _better(column: Column) -> Iterator[str]:
    for method, cell in column.cells.items():
        if REFERENCE in cell.beats:
            yield f"{method} in “{SHOWN[column.name]}” ({plain(cell.value)})"
