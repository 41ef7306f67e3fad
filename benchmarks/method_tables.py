"""The study's tables in docs/method.md; benchmarks/figures.py puts them there."""

from fractions import Fraction
from itertools import pairwise
from math import inf
from statistics import mean

import numpy as np

from benchmarks.exact import rounded
from benchmarks.method_settings import ENCODERS, HELD

Line = dict[str, str]


def tables(lines: list[Line]) -> dict[str, str]:
    """The tables of the tasks and of the summaries, by their names."""
    demo = [line for line in lines if line["file"] == "demo"]
    varied = {line["task"] for line in lines if line["file"] != "demo"}
    same = [line for line in lines if line["setting"] == "defaults" and line["task"] in varied]
    same.sort(key=lambda line: line["task"])
    measured = [line for line in lines if line["update"]]
    return {
        **{
            task: table([line for line in demo if line["task"] == task])
            for task in dict.fromkeys(line["task"] for line in demo)
        },
        "variants": table(same, "file", "task"),
        "bands": bands(measured),
        "correlation": correlations(measured),
    }


def table(lines: list[Line], *named_by: str) -> str:
    """A row a line, named by some of its columns; edited | stock text encoder where both are."""
    named_by = named_by or ("setting",)
    targets = {"named ↓": "explicit", "implied ↓": "implicit", "anchor ↑": "anchor"}
    head = [*named_by, *targets, *(f"{column} ↑" for column in HELD), "leak", "drift", "update"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        cells = [line[column] for column in named_by]
        for rate in targets.values():
            cells.append(" \\| ".join(_number(line[f"{rate}_{e}"]) for e in ENCODERS))
        cells += [_number(line[column]) for column in HELD]
        for name in ("leak", "drift"):
            cells.append(" \\| ".join(_number(line[f"{name}_{e}"]) for e in ENCODERS))
        rows.append([*cells, _number(line["update"])])
    return markdown_rows(rows)


def bands(lines: list[Line]) -> str:
    """What the judge sees, by how large leak and drift are."""
    both = [(line, encoder) for line in lines for encoder in ENCODERS]
    rows = [["", "cells", "named ≤ 0.05 in", "implied ≤ 0.05 in"], ["---"] * 4]
    for low, high in pairwise((0, 0.25, 0.5, 1, inf)):
        inside = [(line, e) for line, e in both if low <= float(line[f"leak_{e}"]) < high]
        good = [
            str(sum(Fraction(line[f"{column}_{e}"]) <= Fraction("0.05") for line, e in inside))
            for column in ("explicit", "implicit")
        ]
        rows.append([f"leak {low:g} to {high:g}", str(len(inside)), *good])
    text = markdown_rows(rows)
    columns = "others", "neighbours", "colours"
    rows = [["", "lines", *(f"{c}, least and mean" for c in columns)], ["---"] * (2 + len(columns))]
    for low, high in pairwise((0, 0.1, 0.2, 0.3, 0.4, 0.5, inf)):
        inside_lines = [line for line in lines if low <= float(line["drift_edited"]) < high]
        cells = [_least_and_mean([Fraction(r[c]) for r in inside_lines if r[c]]) for c in columns]
        rows.append([f"drift {low:g} to {high:g}", str(len(inside_lines)), *cells])
    return f"{text}\n{markdown_rows(rows)}"


def _least_and_mean(rates: list[Fraction]) -> str:
    return f"{rounded(min(rates), 2)}, {rounded(mean(rates), 2)}" if rates else "–"


def markdown_rows(rows: list[list[str]]) -> str:
    """Return a table in Markdown, of its heading, its rule and its rows."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def correlations(lines: list[Line]) -> str:
    """Spearman's ρ of what is measured on text with what the judge sees."""
    rows = [["", "edited encoder", "stock encoder"], ["---"] * 3]
    for name, column in (("named", "explicit"), ("implied", "implicit")):
        cells = [f"leak with {name} targets still drawn"]
        for encoder in ENCODERS:
            x = [float(line[f"leak_{encoder}"]) for line in lines]
            drawn = [float(Fraction(line[f"{column}_{encoder}"])) for line in lines]
            cells.append(_correlation(x, drawn))
        rows.append(cells)
    for column in HELD:
        told = [line for line in lines if line[column]]
        x = [float(line["drift_edited"]) for line in told]
        lost = [1 - float(Fraction(line[column])) for line in told]
        rows.append([f"drift with {column} lost", _correlation(x, lost), "–"])
    return markdown_rows(rows) + f"\nOver {len(lines)} lines.\n"


def spearman(x: list[float], y: list[float]) -> float:
    """Rank correlation; equal values share their mean rank."""
    a, b = _ranks(x), _ranks(y)
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: list[float]) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _correlation(x: list[float], y: list[float]) -> str:
    return rounded(Fraction(spearman(x, y)), 2)


def _number(text: str) -> str:
    """A count such as 3/100 as a share, or a decimal."""
    return rounded(Fraction(text), 2) if text else "–"
