"""The tables of docs/comparison.md, from what benchmarks/comparison.py found."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.comparison_tasks import GROUPS, TASKS, TOGETHER, UNWANTED
from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost
from erasepro_convert.compare.output import (
    COSTS,
    HEADINGS,
    cost_cells,
    csv_rows,
    format_cell,
    format_estimate,
    markdown_table,
)
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.results import ARROWS, Estimate, Metric

REFERENCE = "erasepro"
SHOWN = {
    "T: target seen": "target seen",
    "T: seen where implied": "where implied",
    "A: anchor seen": "anchor seen",
    "O: seen as asked": "others as asked",
    "KID A": "KID A",
    "KIDp O": "KIDp O",
}
AVERAGED = ("Instances", "Styles")
PAGE = Path("docs/comparison.md")
FIGURES = Path("benchmarks/results/comparison.csv")
MARKS = "<!-- tables -->", "<!-- end -->"


def write(results: Mapping[str, Any], seeds: int) -> None:
    """Put tables between the page's markers, and figures into a file; results are by task."""
    figures = {task: _figures(task, data) for task, data in results.items()}
    found = {task: _shown(of) for task, of in figures.items()}
    counts = f"Ten prompts of each kind (of implied ones six), {seeds} seeds each.\n"
    parts = [counts, f"{_verdict(found)}\n", *_sections(figures, found, results), *_costs(results)]
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    text = "\n".join(parts)
    PAGE.write_text(f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}", encoding="utf-8")
    with FIGURES.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", *HEADINGS])
        for task, shown in found.items():
            for column in shown:
                writer.writerows([task, *cells] for cells in csv_rows(column))


def _figures(task: str, data: Any) -> dict[str, list[Metric]]:
    """By method; the task's name goes to the concept, so that tasks can be averaged."""
    return {m: [_metric(task, figure) for figure in of] for m, of in data["figures"].items()}


def _metric(task: str, data: dict[str, Any]) -> Metric:
    sides = {side: _value(data[side]) for side in ("original", "erased", "difference")}
    concept = f"{task}: {data['concept']}"
    return replace(Metric(**{**data, **sides}), concept=concept)


def _value(data: dict[str, Any] | None) -> Estimate | None:
    if data is None:
        return None
    return Estimate(data["value"], Interval(**data["interval"]) if data["interval"] else None)


def _verdict(found: Mapping[str, Sequence[Column]]) -> str:
    better = [
        f"{method} in “{SHOWN[column.name]}” of {_arrow(task)}"
        for task, shown in found.items()
        for column in shown
        for method, cell in column.cells.items()
        if REFERENCE in cell.beats
    ]
    if better:
        return f"Better than {REFERENCE} beyond chance: {'; '.join(better)}."
    return f"No method is better than {REFERENCE} beyond chance in any column of any task."


def _sections(
    figures: Mapping[str, Mapping[str, Sequence[Metric]]],
    found: Mapping[str, Sequence[Column]],
    results: Mapping[str, Any],
) -> Iterator[str]:
    for heading, tasks in GROUPS.items():
        yield f"## {heading}\n"
        if heading in AVERAGED:
            yield f"The average of {', '.join(map(_arrow, tasks))}:\n"
            methods = list(figures[next(iter(tasks))])
            yield _table(_shown({m: [f for t in tasks for f in figures[t][m]] for m in methods}))
        for task in tasks:
            yield f"### {_arrow(task)}\n"
            yield _table(found[task])
            for method, reason in results[task]["failed"].items():
                yield f"{method} gave nothing: {reason}\n"


def _costs(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Cost\n"
    yield "Of five concepts and of ten; the demo model has 18 million parameters.\n"
    for task in ("5 together", "10 together"):
        costs = {m: Cost(**cost) for m, cost in results[task]["costs"].items()}
        yield markdown_table(
            [_arrow(task), *COSTS], [[m, *cost_cells(cost)] for m, cost in costs.items()]
        )


def _arrow(task: str) -> str:
    pairs = TASKS[task]
    if len(pairs) > len(UNWANTED["no fire"]) or task in TOGETHER:
        return f"{len(pairs)} concepts"
    return ", ".join(f"{target} → {anchor or 'nothing'}" for target, anchor in pairs)


def _table(shown: Sequence[Column]) -> str:
    headings = ["", *(f"{SHOWN[column.name]} {ARROWS[column.better]}" for column in shown)]
    rows = [["*original*", *(format_estimate(column.original) for column in shown)]]
    for method in dict.fromkeys(method for column in shown for method in column.cells):
        rows.append([method, *(format_cell(column.cells.get(method)) for column in shown)])
    return markdown_table(headings, rows)


def _shown(figures: Mapping[str, Sequence[Metric]]) -> list[Column]:
    return [column for column in columns(figures, REFERENCE) if column.name in SHOWN]
