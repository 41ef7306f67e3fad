"""The study's tables, from benchmarks/method_study.csv into docs/method.md, between its markers."""

import re
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.method_study import ENCODERS, RESULTS, read

PAGE = Path("docs/method.md")
Line = dict[str, str]


def main() -> None:
    """Put the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), read(RESULTS)), encoding="utf-8")


def filled(text: str, lines: list[Line]) -> str:
    """The page with what stands between the markers of each task, and of the correlations."""
    for task in dict.fromkeys(line["task"] for line in lines):
        text = _put(text, task, table([line for line in lines if line["task"] == task]))
    measured = [line for line in lines if line["update"]]
    text = _put(text, "bands", bands(measured))
    return _put(text, "correlation", correlations(measured))


def _put(text: str, name: str, content: str) -> str:
    start, end = f"<!-- {name} -->\n", "<!-- end -->"
    if start not in text:
        return text
    head, rest = text.split(start, 1)
    return f"{head}{start}{content}{end}{rest.split(end, 1)[1]}"


def table(lines: list[Line]) -> str:
    """A row a setting; edited | stock text encoder where there are two."""
    head = ["setting", "named ↓", "implied ↓", "anchor ↑", "others ↑", "colours ↑", "leak", "drift"]
    rows = [[*head, "update"], ["---"] * (len(head) + 1)]
    for line in lines:
        cells = [line["setting"]]
        for rate in ("explicit", "implicit", "anchor", "others"):
            cells.append(" \\| ".join(_percent(line[f"{rate}_{e}"]) for e in ENCODERS))
        cells.append(_percent(line["colours_edited"]))
        for name in ("leak", "drift"):
            cells.append(" \\| ".join(_number(line[f"{name}_{e}"]) for e in ENCODERS))
        rows.append([*cells, _number(line["update"])])
    return _rows(rows)


def bands(lines: list[Line]) -> str:
    """What the judge sees, by how large leak, drift and update are."""
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
    rows = [["", "cells", "others, least", "others, mean"], ["---"] * 4]
    for low, high in pairwise((0, 0.1, 0.2, 0.3, 0.5, inf)):
        inside = [(line, e) for line, e in both if low <= float(line[f"drift_{e}"]) < high]
        rates = [rate(line[f"others_{e}"]) for line, e in inside]
        rows.append([f"drift {low:g} to {high:g}", *_least_and_mean(rates)])
    for low, high in pairwise((0, 0.5, 1, 2, inf)):
        rates = [rate(r["others_edited"]) for r in lines if low <= float(r["update"]) < high]
        rows.append([f"relative update {low:g} to {high:g}", *_least_and_mean(rates)])
    return f"{text}\n{_rows(rows)}"


def _least_and_mean(rates: list[float]) -> list[str]:
    return [str(len(rates)), f"{min(rates):.2f}", f"{sum(rates) / len(rates):.2f}"]


def _rows(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def correlations(lines: list[Line]) -> str:
    """Spearman's ρ of what is measured on text with what the judge sees."""
    pairs: dict[str, tuple[str, str, Callable[[float], float]]] = {
        "leak with named targets still drawn": ("leak", "explicit", float),
        "leak with implied targets still drawn": ("leak", "implicit", float),
        "drift with others lost": ("drift", "others", lambda rate: 1 - rate),
    }
    rows = [["", "edited encoder", "stock encoder"], ["---"] * 3]
    for label, (name, column, sense) in pairs.items():
        cells = [label]
        for encoder in ENCODERS:
            x = [float(line[f"{name}_{encoder}"]) for line in lines]
            y = [sense(rate(line[f"{column}_{encoder}"])) for line in lines]
            cells.append(f"{spearman(x, y):.2f}")
        rows.append(cells)
    return _rows(rows) + f"\nOver {len(lines)} cells.\n"


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
