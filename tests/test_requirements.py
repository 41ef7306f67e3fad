"""The oldest versions that pyproject.toml allows are those that the core is tested with."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

PINS = dict(
    line.split("==")
    for line in Path("constraints-oldest.txt").read_text(encoding="utf-8").lower().splitlines()
    if not line.startswith("#")
)
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST = dict(
    re.sub(r"\[.*\]", "", requirement.lower()).split(">=")
    for requirement in PROJECT["dependencies"]
)


def numbers(version: str) -> list[int]:
    """A release without the zeros at its end, which say nothing."""
    parts = [int(part) for part in version.partition("+")[0].split(".")]
    while parts[-1] == 0:
        parts.pop()
    return parts


@pytest.mark.parametrize("name", sorted(OLDEST.keys() - {"torch"}))
def test_the_oldest_that_is_allowed_is_pinned(name: str) -> None:
    """But for torch: its oldest version is several GB of CUDA, and is tried by hand."""
    assert numbers(PINS[name]) == numbers(OLDEST[name])


@pytest.mark.parametrize("name", sorted(OLDEST))
def test_what_is_installed_is_allowed(name: str) -> None:
    """Here with `make test`, and with `make oldest` at the other end."""
    assert numbers(importlib.metadata.version(name)) >= numbers(OLDEST[name])


def test_every_installed_package_allows_the_oldest_python() -> None:
    """Debian 12 has 3.11.2: a package that wants 3.11.5 keeps the whole set from installing."""
    oldest = f"{PROJECT['requires-python'].removeprefix('>=')}.0"
    wanted = {
        package.name: str(package.metadata.json.get("requires_python", ""))
        for package in importlib.metadata.distributions()
    }
    assert len(set(wanted.values())) > 1
    assert not {name: w for name, w in wanted.items() if not SpecifierSet(w).contains(oldest)}
