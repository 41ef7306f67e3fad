"""Figures without floats: what a CSV says, and how a page rounds it."""

import re
from fractions import Fraction
from math import floor, log10

FIGURE = r"-?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+]\d+)?"
"""A number as pages write it: 0.88, 1,104 or 1.8e-06."""


def rounded(value: Fraction, digits: int) -> str:
    """The decimal with so many digits behind the point; a half goes away from zero."""
    units = floor(abs(value) * 10**digits + Fraction(1, 2))
    whole, rest = divmod(units, 10**digits)
    sign = "-" if value < 0 and units else ""
    return f"{sign}{whole}.{rest:0{digits}}" if digits else f"{sign}{whole}"


def like(value: Fraction, written: str) -> str:
    """The value with as many digits as the figure that is written, and in its notation."""
    match = re.fullmatch(r"-?[\d,]+(?:\.(\d+))?(e[-+]\d+)?", written)
    assert match, written
    digits = len(match[1] or "")
    if match[2]:
        power = floor(log10(abs(value)))
        return f"{rounded(value / Fraction(10) ** power, digits)}e{power:+03}"
    whole, point, rest = rounded(value, digits).partition(".")
    return f"{int(whole):,}{point}{rest}" if int(whole) else f"{whole}{point}{rest}"
