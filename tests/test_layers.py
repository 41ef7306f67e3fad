"""The package is laid out as CONTRIBUTING.md says: a room imports what stands above it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path("erasepro_convert")
ROOMS = re.findall(
    r"^\| `(\w+)(?:/|\.py)` \|", Path("CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE
)
FOR_ALL = {"__init__", "__main__", "errors"}


def imported(file: Path) -> Iterator[str]:
    """The rooms that a module imports from, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module="erasepro_convert"):
                yield from (name.name for name in node.names)
            case ast.ImportFrom(module=str(module)) if module.startswith("erasepro_convert."):
                yield module.split(".")[1]
            case ast.Import():
                modules = [name.name.split(".") for name in node.names]
                yield from (m[1] for m in modules if m[0] == "erasepro_convert" and len(m) > 1)


def test_every_room_is_in_the_table() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert there - FOR_ALL - {"__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_nothing_that_stands_below_it(room: str) -> None:
    below = ROOMS[ROOMS.index(room) + 1 :]
    single = PACKAGE / f"{room}.py"
    files = [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        assert not set(imported(file)) & set(below), file
