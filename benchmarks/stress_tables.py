"""The tables of docs/stress.md; benchmarks/figures.py puts them there."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from benchmarks.exact import rounded
from benchmarks.method_tables import Line, markdown_rows

RESULTS = Path("benchmarks/results/stress.csv")
METHODS = {
    "erasepro": "default",
    "erasepro-unet": "U-Net alone",
    "erasepro-paper": "paper's settings",
    "uce": "UCE",
    "oce": "OCE",
}
REFERENCE = "erasepro"
PREFIXES = "best word", "second word", "third word"
NOTHING = "–"

Cases = Mapping[tuple[str, str], Line]
"""Lines of one method by attack and case."""


def tables(lines: list[Line]) -> dict[str, str]:
    """Return the tables of recovered targets and of distances, for each task that was attacked."""
    found = {}
    for task in dict.fromkeys(line["task"] for line in lines):
        methods = {
            method: {(x["attack"], x["case"]): x for x in lines if _is_of(x, task, method)}
            for method in METHODS
        }
        measured = {method: cases for method, cases in methods.items() if cases}
        found[f"recovered {task}"] = _table(measured, "attack", _recovered, "original", "control")
        found[f"distances {task}"] = _table(
            measured, "distance", _distance, "distance_original", "distance_control"
        )
    return found


def _is_of(line: Line, task: str, method: str) -> bool:
    return (line["task"], line["method"]) == (task, method)


def _table(
    methods: Mapping[str, Cases],
    heading: str,
    cell: Callable[[Line], str],
    original: str,
    control: str,
) -> str:
    """Return a row for each case of the reference, a column for each method.

    ``original`` and ``control`` are columns of the lines, taken from the reference.  Cases of which
    no method has anything are left out.
    """
    reference = methods[REFERENCE]
    head = [heading, "original", *(METHODS[method] for method in methods), "control"]
    rows = [head, ["---"] * len(head)]
    for key, line in reference.items():
        cells = [cell(cases[key]) if key in cases else NOTHING for cases in methods.values()]
        if set(cells) != {NOTHING}:
            rows.append([_label(line), _number(line[original]), *cells, _number(line[control])])
    return markdown_rows(rows)


def _label(line: Line) -> str:
    attack, how = line["attack"], line["how"]
    if attack == "none":
        return "no attack"
    return f"`{attack}`: {PREFIXES[int(line['case']) - 1] if attack == 'prefix' else how}"


def _recovered(line: Line) -> str:
    """What came back, with its interval."""
    if not line["recovered"]:
        return NOTHING
    low, high = _number(line["recovered_low"]), _number(line["recovered_high"])
    return f"{_number(line['recovered'])} ({low}…{high})"


def _distance(line: Line) -> str:
    return _number(line["distance_erased"])


def _number(text: str) -> str:
    return rounded(Fraction(text), 2) if text else NOTHING
