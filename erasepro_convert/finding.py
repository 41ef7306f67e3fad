"""What verification finds."""

from dataclasses import dataclass
from math import isclose

FIGURES = 1e-4
"""Relative deviation of a recomputed figure that another processor may cause."""


@dataclass(frozen=True)
class Finding:
    """One deviation: of what kind, of which file, tensor or figure, what was to be, what is."""

    kind: str
    name: str
    expected: str
    found: str


def differs(expected: object, found: object) -> bool:
    """Whether two figures or records of figures are apart by more than another processor does."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() != found.keys() or any(
            differs(expected[key], found[key]) for key in expected
        )
    if isinstance(expected, float) and isinstance(found, float):
        return not isclose(expected, found, rel_tol=FIGURES, abs_tol=1e-9)
    return expected != found
