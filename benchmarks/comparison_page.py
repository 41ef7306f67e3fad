"""The tables of docs/comparison.md, from what benchmarks/comparison.py measured.

Figures with their intervals go to benchmarks/results/comparison-rates.csv.  Lines of both measured
files are put in order, so that they do not depend on which process was first.
"""

import csv
import fcntl
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.comparison import (
    COSTS,
    COSTS_COLUMNS,
    HITS,
    HITS_COLUMNS,
    IDEAL,
    ORIGINAL,
    PROBED,
    cell_of,
    locked,
    plan,
    read,
)
from benchmarks.comparison_pictures import PICTURED, draw_pictures
from benchmarks.comparison_statistics import (
    Array,
    Difference,
    Share,
    difference,
    share,
)
from benchmarks.comparison_tasks import COLUMNS, GONE, KEPT, METHODS, TASKS, UNDIRECTED
from benchmarks.exact import rounded
from benchmarks.figures import BLOCK
from erasepro_convert.compare.columns import SIGNIFICANCE
from erasepro_convert.compare.output import markdown_table
from erasepro_convert.evaluate.metrics.rates import holm

PAGE = Path("docs/comparison.md")
RATES = Path("benchmarks/results/comparison-rates.csv")
RATES_COLUMNS = (
    "task", "method", "column", "hits", "pictures", "low", "high", "difference", "p_holm",
)  # fmt: skip
REFERENCE = "erasepro"
CONTROLS = (ORIGINAL, IDEAL)
BETTER, WORSE = "▴", "▾"
DASH = "–"
Line = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A method's rate in a column of a task.

    ``against`` is the difference from the reference, with p adjusted by Holm for the number of
    methods.  ``best`` marks a rate that is better than that of every other method beyond chance.
    It needs no adjustment, since it has to pass all the tests (an intersection-union test).
    """

    share: Share
    against: Difference | None
    best: bool


@dataclass(frozen=True)
class Task:
    """What was measured in a task: hits by method, column and prompt, and costs by method."""

    name: str
    hits: Mapping[str, Mapping[str, Mapping[tuple[str, str], Array]]]
    """By method, column, concept and prompt: hits (training seeds × picture seeds)."""
    costs: Mapping[str, Sequence[Line]]
    cells: Mapping[str, Mapping[str, Cell]]
    """By column and method."""

    @property
    def methods(self) -> list[str]:
        """The methods that have figures, the reference first."""
        return [method for method in METHODS if method in self.hits]


def main() -> None:
    """Put the tables into the page, unless another process still measures."""
    with locked("measuring", fcntl.LOCK_EX) as is_idle:
        if is_idle:
            _write_all()
        else:
            print("other processes still measure: the last one to end writes the page")


def _write_all() -> None:
    hits, costs = in_order(read(HITS), read(COSTS))
    _write(HITS, HITS_COLUMNS, hits)
    _write(COSTS, COSTS_COLUMNS, costs)
    tasks = tasks_of(hits, costs)
    _write(RATES, RATES_COLUMNS, list(rate_lines(tasks)))
    PAGE.write_text(filled(PAGE.read_text("utf-8"), tasks), encoding="utf-8")
    for task in tasks:
        if task.name == PICTURED:
            draw_pictures([ORIGINAL, *task.methods])


def _write(path: Path, columns: Sequence[str], lines: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def in_order(hits: Sequence[Line], costs: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Return the lines of cells that were measured to the end, once each, in the plan's order."""
    of_cells = {cell_of(line): line for line in costs}
    cells = {cell: i for i, cell in enumerate(plan(METHODS)) if cell in of_cells}
    columns = {column: i for i, column in enumerate(COLUMNS)}
    once = {
        (cells[cell_of(line)], columns[line["column"]], i): line
        for i, line in enumerate(_last(hits))
        if cell_of(line) in cells
    }
    return [once[key] for key in sorted(once)], [of_cells[cell] for cell in cells]


def _last(hits: Sequence[Line]) -> list[Line]:
    """Keep the last line of each prompt: a cell that was interrupted is measured again."""
    return list({(*cell_of(r), r["column"], r["concept"], r["prompt"]): r for r in hits}.values())


def tasks_of(hits: Sequence[Line], costs: Sequence[Line]) -> list[Task]:
    """Arrange lines by task, and compare the methods of each."""
    found = []
    for name in TASKS:
        lines: dict[str, dict[str, dict[tuple[str, str], list[list[int]]]]] = {}
        for line in hits:
            if line["task"] == name:
                columns = lines.setdefault(line["method"], {})
                rows = columns.setdefault(line["column"], {})
                key = line["concept"], line["prompt"]
                rows.setdefault(key, []).append([int(hit) for hit in line["hits"]])
        if ORIGINAL not in lines:
            continue
        of_task = [line for line in costs if line["task"] == name]
        methods = dict.fromkeys(line["method"] for line in of_task)
        arrays = {
            method: {
                column: {key: np.array(rows, dtype=np.float64) for key, rows in prompts.items()}
                for column, prompts in columns.items()
            }
            for method, columns in lines.items()
        }
        by_method = {m: [line for line in of_task if line["method"] == m] for m in methods}
        cells = {column: _cells(column, arrays) for column in COLUMNS if column in arrays[ORIGINAL]}
        found.append(Task(name, arrays, by_method, cells))
    return found


def _cells(
    column: str, arrays: Mapping[str, Mapping[str, Mapping[tuple[str, str], Array]]]
) -> dict[str, Cell]:
    """Compare the methods in one column."""
    keys = list(arrays[ORIGINAL][column])
    stacked = {
        method: np.stack([columns[column][key] for key in keys], axis=1)
        for method, columns in arrays.items()
        if column in columns
    }
    controls = {name: stacked.pop(name) for name in CONTROLS if name in stacked}
    against: dict[str, Difference] = {}
    if REFERENCE in stacked:
        others = [method for method in stacked if method != REFERENCE]
        raw = [difference(stacked[method], stacked[REFERENCE]) for method in others]
        adjusted = holm([d.p for d in raw])
        against = {
            method: Difference(d.mean, p)
            for method, d, p in zip(others, raw, adjusted, strict=True)
        }
    found = {name: Cell(share(hits), None, best=False) for name, hits in controls.items()}
    for method, hits in stacked.items():
        rivals = [other for name, other in stacked.items() if name != method]
        best = bool(rivals) and all(is_better(column, difference(hits, o)) for o in rivals)
        found[method] = Cell(share(hits), against.get(method), best)
    return found


def is_better(column: str, found: Difference) -> bool:
    """Whether a difference in a column is one for the better, beyond chance."""
    if column in UNDIRECTED or found.p >= SIGNIFICANCE:
        return False
    return found.mean < 0 if column in GONE else found.mean > 0


def is_worse(column: str, found: Difference) -> bool:
    """Whether a difference in a column is one for the worse, beyond chance."""
    return is_better(column, Difference(-found.mean, found.p))


def filled(text: str, tasks: Sequence[Task]) -> str:
    """Return the page with what stands between its markers."""
    made = {
        "verdict": verdict(tasks),
        "tables": "\n".join(part for task in tasks for part in section(task)),
    }

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- {name} -->\n{made.get(name, found['body'])}<!-- end -->"

    return BLOCK.sub(block, text)


def verdict(tasks: Sequence[Task]) -> str:
    """Say in which columns of which tasks a method is better than the reference."""
    lines = [f"- {heading(task)}: {', '.join(better_cells(task)) or 'none'}." for task in tasks]
    return f"Better than `{REFERENCE}` beyond chance:\n\n" + "\n".join(lines) + "\n"


def better_cells(task: Task) -> Iterator[str]:
    """Name what is better than the reference beyond chance, with both rates and intervals."""
    for column, cells in task.cells.items():
        for method, cell in cells.items():
            if cell.against and is_better(column, cell.against):
                both = f"{_with_interval(cell.share)} for {_with_interval(cells[REFERENCE].share)}"
                yield f"`{method}` in “{column}” ({both})"


def _rounded(value: Fraction | float) -> str:
    return rounded(Fraction(value), 2)


def _with_interval(found: Share) -> str:
    low, high = _rounded(found.interval.low), _rounded(found.interval.high)
    return f"{_rounded(found.rate)}, {low}…{high}"


def section(task: Task) -> Iterator[str]:
    """Give a task's heading, its tables and what gave no figures."""
    yield f"### {heading(task)}\n"
    yield table(task)
    yield worst_table(task)
    for method, lines in task.costs.items():
        for line in lines:
            if line["failed"]:
                yield f"`{method}` gave nothing: {line['failed']}\n"


def heading(task: Task) -> str:
    """Name a task by its concepts, or by their number."""
    pairs = TASKS[task.name]
    if len({anchor for _, anchor in pairs}) > 1:
        return f"{task.name.capitalize()} concepts"
    return f"{', '.join(target for target, _ in pairs)} → {pairs[0][1]}"


def table(task: Task) -> str:
    """Write a row a method: rates, then leak and drift, then seconds of conversion."""
    columns = [column for column in COLUMNS if column in task.cells and column != "named, stock"]
    headings = [f"{_short(column)}{_arrow(column)}" for column in columns]
    rows = []
    for method in (*(name for name in CONTROLS if name in task.hits), *task.methods):
        cells = [_rates(task, method, column) for column in columns]
        name = f"*{method}*" if method in CONTROLS else method
        rows.append([name, *cells, *_cost_cells(task.costs.get(method, ()))])
    return markdown_table(["", *headings, "leak", "drift", "seconds"], rows)


def _arrow(column: str) -> str:
    return "" if column in UNDIRECTED else " ↓" if column in GONE else " ↑"


def _short(column: str) -> str:
    return "named \\| stock" if column == "named" else column


def _rates(task: Task, method: str, column: str) -> str:
    columns = ("named", "named, stock") if column == "named" else (column,)
    cells = (task.cells[name].get(method) for name in columns)
    return " \\| ".join(
        _rate(name, cell) if cell else DASH for name, cell in zip(columns, cells, strict=True)
    )


def _rate(column: str, cell: Cell) -> str:
    """Write a rate: bold where it is best, marked where it differs from the reference."""
    text = _rounded(cell.share.rate)
    if cell.best:
        text = f"**{text}**"
    if cell.against and is_better(column, cell.against):
        text += BETTER
    if cell.against and is_worse(column, cell.against):
        text += WORSE
    return text


def _cost_cells(lines: Sequence[Line]) -> list[str]:
    """Write leak and drift with both text encoders, and seconds: means over training seeds.

    Seconds are not there where the machine had other work.
    """
    means = {name: _mean([line[name] for line in lines]) for name in (*PROBED, "seconds")}
    seconds = means.pop("seconds")
    if not any(value is not None for value in (seconds, *means.values())):
        return [DASH] * 3
    pairs = [
        " \\| ".join(_rounded(means[f"{name}_{encoder}"] or 0) for encoder in ("edited", "stock"))
        for name in ("leak", "drift")
    ]
    return [*pairs, DASH if seconds is None else f"{float(seconds):.1f}"]


def _mean(texts: Sequence[str]) -> Fraction | None:
    numbers = [Fraction(text) for text in texts if text]
    return sum(numbers, Fraction(0)) / len(numbers) if numbers else None


def worst_table(task: Task) -> str:
    """Write for each method the concept that is gone least, and the one that is kept least."""
    kept = [column for column in KEPT if column != "anchor"]  # ESD has no anchor
    rows = [[method, _worst(task, method, GONE), _worst(task, method, kept)]
            for method in task.methods]  # fmt: skip
    return markdown_table(["worst", "still drawn", "lost"], rows)


def _worst(task: Task, method: str, columns: Sequence[str]) -> str:
    """Name the concept and column in which a method is furthest from what it should be."""
    rates: dict[tuple[str, str], Fraction] = {}
    for column in columns:
        by_concept: dict[str, list[Array]] = defaultdict(list)
        for (concept, _), hits in task.hits[method].get(column, {}).items():
            by_concept[concept].append(hits)
        for concept, arrays in by_concept.items():
            hits = np.concatenate([array.ravel() for array in arrays])
            rates[column, concept] = Fraction(int(hits.sum()), hits.size)
    is_gone = set(columns) <= set(GONE)
    column, concept = (max if is_gone else min)(rates, key=rates.__getitem__)
    found = rates[column, concept]
    if found == (0 if is_gone else 1):
        return DASH
    return f"{concept} in “{column}”: {_rounded(found)}"


def rate_lines(tasks: Sequence[Task]) -> Iterator[dict[str, object]]:
    """Give a line for each rate, with its interval and its difference from the reference."""
    for task in tasks:
        for column, cells in task.cells.items():
            for method, cell in cells.items():
                against = cell.against
                yield {
                    "task": task.name,
                    "method": method,
                    "column": column,
                    "hits": cell.share.hits,
                    "pictures": cell.share.pictures,
                    "low": f"{cell.share.interval.low:.4f}",
                    "high": f"{cell.share.interval.high:.4f}",
                    "difference": f"{against.mean:z.4f}" if against else "",
                    "p_holm": f"{against.p:.4g}" if against else "",
                }


if __name__ == "__main__":
    main()
