"""The study's tables, from benchmarks/method_study.csv into docs/method.md, between its markers."""

import re
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.method_study import ENCODERS, HELD, RESULTS, read

PAGE = Path("docs/method.md")
Line = dict[str, str]


def main() -> None:
    """Put the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), read(RESULTS)), encoding="utf-8")


def filled(text: str, lines: list[Line]) -> str:
    """The page with what stands between the markers of each task, and of the summaries."""
    demo = [line for line in lines if line["file"] == "demo"]
    for task in dict.fromkeys(line["task"] for line in demo):
        text = _put(text, task, table([line for line in demo if line["task"] == task]))
    varied = {line["task"] for line in lines if line["file"] != "demo"}
    same = [line for line in lines if line["setting"] == "defaults" and line["task"] in varied]
    same.sort(key=lambda line: line["task"])
    text = _put(text, "variants", table(same, "file", "task"))
    measured = [line for line in lines if line["update"]]
    text = _put(text, "bands", bands(measured))
    return _put(text, "correlation", correlations(measured))


def _put(text: str, name: str, content: str) -> str:
    start, end = f"<!-- {name} -->\n", "<!-- end -->"
    if start not in text:
        return text
    head, rest = text.split(start, 1)
    return f"{head}{start}{content}{end}{rest.split(end, 1)[1]}"


def table(lines: list[Line], *named_by: str) -> str:
    """A row a line, named by some of its columns; edited | stock text encoder where both are."""
    named_by = named_by or ("setting",)
    targets = {"named ↓": "explicit", "implied ↓": "implicit", "anchor ↑": "anchor"}
    head = [*named_by, *targets, *(f"{column} ↑" for column in HELD), "leak", "drift", "update"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        cells = [line[column] for column in named_by]
        for rate in targets.values():
            cells.append(" \\| ".join(_percent(line[f"{rate}_{e}"]) for e in ENCODERS))
        cells += [_percent(line[column]) for column in HELD]
        for name in ("leak", "drift"):
            cells.append(" \\| ".join(_number(line[f"{name}_{e}"]) for e in ENCODERS))
        rows.append([*cells, _number(line["update"])])
    return _rows(rows)


def bands(lines: list[Line]) -> str:
    """What the judge sees, by how large leak and drift are."""
    both = [(line, encoder) for line in lines for encoder in ENCODERS]
    rows = [["", "cells", "named ≤ 0.05 in", "implied ≤ 0.05 in"], ["---"] * 4]
    for low, high in pairwise((0, 0.25, 0.5, 1, inf)):
        inside = [(line, e) for line, e in both if low <= float(line[f"leak_{e}"]) < high]
        good = [
            str(sum(rate(line[f"{column}_{e}"]) <= 0.05 for line, e in inside))
            for column in ("explicit", "implicit")
        ]
        rows.append([f"leak {low:g} to {high:g}", str(len(inside)), *good])
    text = _rows(rows)
    columns = "others", "neighbours", "colours"
    rows = [["", "lines", *(f"{c}, least and mean" for c in columns)], ["---"] * (2 + len(columns))]
    for low, high in pairwise((0, 0.1, 0.2, 0.3, 0.4, 0.5, inf)):
        inside_lines = [line for line in lines if low <= float(line["drift_edited"]) < high]
        cells = [_least_and_mean([rate(r[c]) for r in inside_lines if r[c]]) for c in columns]
        rows.append([f"drift {low:g} to {high:g}", str(len(inside_lines)), *cells])
    return f"{text}\n{_rows(rows)}"


def _least_and_mean(rates: list[float]) -> str:
    return f"{min(rates):.2f}, {sum(rates) / len(rates):.2f}" if rates else "–"


def _rows(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def correlations(lines: list[Line]) -> str:
    """Spearman's ρ of what is measured on text with what the judge sees."""
    rows = [["", "edited encoder", "stock encoder"], ["---"] * 3]
    for name, column in (("named", "explicit"), ("implied", "implicit")):
        cells = [f"leak with {name} targets still drawn"]
        for encoder in ENCODERS:
            x = [float(line[f"leak_{encoder}"]) for line in lines]
            cells.append(f"{spearman(x, [rate(r[f'{column}_{encoder}']) for r in lines]):.2f}")
        rows.append(cells)
    for column in HELD:
        told = [line for line in lines if line[column]]
        x = [float(line["drift_edited"]) for line in told]
        lost = [1 - rate(line[column]) for line in told]
        rows.append([f"drift with {column} lost", f"{spearman(x, lost):.2f}", "–"])
    return _rows(rows) + f"\nOver {len(lines)} lines.\n"


def spearman(x: list[float], y: list[float]) -> float:
    """Rank correlation; equal values share their mean rank."""
    a, b = _ranks(x), _ranks(y)
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: list[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def rate(text: str) -> float:
    """A count such as 3/100 as a share."""
    hits, pictures = map(int, re.fullmatch(r"(\d+)/(\d+)", text).groups())  # type: ignore[union-attr]
    return hits / pictures


def _percent(text: str) -> str:
    return f"{rate(text):.2f}" if text else "–"


def _number(text: str) -> str:
    return f"{float(text):.2f}" if text else "–"


if __name__ == "__main__":
    main()
