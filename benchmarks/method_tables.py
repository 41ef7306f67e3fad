"""The study's tables, from benchmarks/method_study.csv into docs/method.md, between its markers."""

import re
from collections.abc import Callable
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
    return _put(text, "correlation", correlations([line for line in lines if line["update"]]))


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
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return text + f"\nOver {len(lines)} cells.\n"


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
