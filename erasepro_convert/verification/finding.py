"""The findings of a verification, and their summary."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import isclose

from erasepro_convert.runtime.wording import counted

FIGURE_TOLERANCE = 1e-4
"""The relative deviation of a recomputed figure that another processor may cause."""

SEPARATE_PAIRS = 3
"""Up to so many pairs of expected and found values get a line each in a summary."""


@dataclass(frozen=True)
class Finding:
    """One deviation.

    ``kind`` is the check that found it, ``name`` the file, tensor or figure that deviates, and
    ``what`` the part that does.  ``what`` is empty where the whole is missing or superfluous.
    """

    kind: str
    name: str
    expected: str
    found: str
    what: str = ""

    @property
    def place(self) -> str:
        """The name, and the part where there is one."""
        return f"{self.name}: {self.what}" if self.what else self.name


Checks = Mapping[str, Set[str]]
"""The kinds of deviations that each check finds."""


def outcomes_of(
    checks: Checks, findings: Iterable[Finding], done: Collection[str]
) -> dict[str, bool | None]:
    """Whether each check found nothing; None for one that was not made, or not to its end."""
    found = {finding.kind for finding in findings}
    return {
        check: False if kinds & found else True if check in done else None
        for check, kinds in checks.items()
    }


def sentences_on(
    checks: Checks,
    findings: Sequence[Finding],
    outcomes: Mapping[str, bool | None],
    held: Mapping[str, str],
    not_made: Mapping[str, str],
) -> dict[str, str]:
    """Say of each check what it found: nothing, so many deviations, or why it was not made.

    ``held`` has what is said of a check that found nothing, ``not_made`` why one was not made.
    """
    said = {}
    for check, nothing_found in outcomes.items():
        if nothing_found:
            said[check] = held[check]
        elif nothing_found is None:
            said[check] = f"not checked ({not_made[check]})" if check in not_made else "not checked"
        else:
            found = sum(finding.kind in checks[check] for finding in findings)
            said[check] = counted(found, "deviation")
    return said


def summarised(findings: Sequence[Finding]) -> list[str]:
    """Return a line for each kind of deviation, with its count and its first place."""
    return [line for group in _grouped(findings) for line in _lines(group)]


def _grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.what), []).append(finding)
    return list(groups.values())


def _lines(group: Sequence[Finding]) -> Iterator[str]:
    pairs: dict[tuple[str, str], list[Finding]] = {}
    for finding in group:
        pairs.setdefault((finding.expected, finding.found), []).append(finding)
    if len(pairs) > SEPARATE_PAIRS:
        yield _line(group, f"another {group[0].what or 'one'}")
        return
    for (expected, found), equal in pairs.items():
        yield _line(equal, f"{equal[0].what} {found}, expected {expected}".lstrip())


def _line(group: Sequence[Finding], what: str) -> str:
    times = counted(len(group), "time")
    return f"{group[0].kind}: {times} {what}; the first is {group[0].name}"


def differs(expected: object, found: object, tolerance: float = FIGURE_TOLERANCE) -> bool:
    """Whether two figures, or records of figures, deviate more than another processor explains."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() != found.keys() or any(
            differs(expected[key], found[key], tolerance) for key in expected
        )
    if isinstance(expected, float) and isinstance(found, float):
        return not isclose(expected, found, rel_tol=tolerance, abs_tol=1e-9)
    return expected != found
