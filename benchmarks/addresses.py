"""Addresses of figures: what a page's comment says, computed from the CSV files of results.

An address is one term, or terms with ``+ - * /`` between them (blanks around, from left to right).
A term is a number, or ``[min|max|mean|median] SOURCE KEY/…/COLUMN [where COLUMN<=NUMBER]``:

- ``study demo/ten/defaults/colours`` is one cell of the study;
- ``min study demo/ten/UCE*|null-space/unnamed`` is the least of several rows;
- ``median convert recipe/copy+openssl`` adds two columns of each row first.
"""

import csv
import operator
import re
import statistics
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.method_settings import ENCODERS, RESULTS

Line = dict[str, str]
Aggregate = Callable[[Iterable[Fraction]], Fraction]


class Source(NamedTuple):
    """Lines of results, and the columns that name one of them."""

    lines: Callable[[], list[Line]]
    keys: tuple[str, ...]


class AddressError(ValueError):
    """An address at which no figure is."""


@cache
def read(path: Path) -> list[Line]:
    """The lines of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def cells() -> list[Line]:
    """The study's lines, one for each text encoder, with its leak beside what is drawn."""
    names = {"named": "explicit", "implied": "implicit", "leak": "leak"}
    return [
        line
        | {"encoder": encoder}
        | {name: line[f"{column}_{encoder}"] for name, column in names.items()}
        for line in read(RESULTS)
        for encoder in ENCODERS
    ]


def _result(name: str, *keys: str) -> Source:
    return Source(partial(read, Path(__file__).parent / "results" / name), keys)


def rates() -> list[Line]:
    """The rates of the comparison."""
    lines = read(Path(__file__).parent / "results" / "comparison-rates.csv")
    return [line | {"rate": f"{line['hits']}/{line['pictures']}"} for line in lines]


SOURCES = {
    "comparison": Source(cache(rates), ("task", "method", "column")),
    "comparison-cost": _result("comparison-cost.csv", "task", "method", "training_seed"),
    "study": Source(partial(read, RESULTS), ("file", "task", "setting")),
    "cells": Source(cells, ("file", "task", "setting", "encoder")),
    "invariance": _result("invariance.csv", "method", "task", "file"),
    "deviations": _result("deviations.csv", "layer", "alpha"),
    "convert": _result("convert-fp16.csv", "cache"),
    "precision": _result("precision.csv", "method", "part"),
    "growth": _result("growth.csv", "concepts", "recipe"),
    "batch": _result("batch.csv", "files", "jobs"),
    "batch-growth": _result("batch-growth.csv", "files", "jobs"),
    "chain": _result("chain.csv", "concepts"),
    "lora": _result("lora.csv", "model", "limit"),
    "stress": _result("stress.csv", "task", "method", "concept", "attack", "case"),
    "by-hand": _result("by-hand.csv", "name"),
}

AGGREGATES: dict[str, Aggregate] = {
    "min": min,
    "max": max,
    "mean": statistics.mean,
    "median": statistics.median,
}
OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
TERM = re.compile(
    rf"(?:(?P<aggregate>{'|'.join(AGGREGATES)}) )?(?P<source>[\w-]+) (?P<path>.+?)"
    r"(?: where (?P<bounded>[\w ]+)<=(?P<limit>[\d.]+))?"
)


def figure(address: str) -> Fraction:
    """The value at an address."""
    first, *rest = re.split(r" ([-+*/]) ", address)
    value = _term(first)
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        value = OPERATORS[sign](value, _term(term))
    return value


def _term(text: str) -> Fraction:
    if re.fullmatch(r"[\d.]+", text):
        return Fraction(text)
    match = TERM.fullmatch(text)
    if not match or match["source"] not in SOURCES:
        raise AddressError(f"{text!r} is no address: its source is one of {', '.join(SOURCES)}")
    source = SOURCES[match["source"]]
    *keys, columns = match["path"].split("/")
    if len(keys) != len(source.keys):
        raise AddressError(f"{text!r} has to name {', '.join(source.keys)} and a column")
    lines = [
        line
        for line in source.lines()
        if all(_fits(line[name], key) for name, key in zip(source.keys, keys, strict=True))
    ]
    if match["bounded"]:
        bounded = ((line, _sum(line, match["bounded"], text)) for line in lines)
        lines = [
            line
            for line, value in bounded
            if value is not None and value <= Fraction(match["limit"])
        ]
    values = [value for line in lines if (value := _sum(line, columns, text)) is not None]
    if match["aggregate"] and values:
        return AGGREGATES[match["aggregate"]](values)
    if len(values) != 1:
        raise AddressError(f"{text!r} is {len(values)} figures")
    return values[0]


def _fits(value: str, key: str) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in key.split("|"))


def _sum(line: Line, columns: str, text: str) -> Fraction | None:
    """The sum of a line's columns; nothing where one is empty."""
    found = [line.get(column) for column in columns.split("+")]
    if None in found:
        raise AddressError(f"{text!r}: the columns are {', '.join(line)}")
    return sum((Fraction(cell) for cell in found if cell), Fraction()) if all(found) else None
