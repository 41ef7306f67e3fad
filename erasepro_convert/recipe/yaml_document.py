"""Read YAML text as plain data with line numbers; what a recipe never needs is refused.

Words without quotes mean what YAML 1.2 says: 5e-5 is a number; no, 12:30 and 2024-01-01 are text.
Aliases (the billion-laughs attack), tags, repeated keys, deep nesting and huge files are refused
before any data is built from them.
"""

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from erasepro_convert.errors import RecipeError, describe_error
from erasepro_convert.recipe.confusable_characters import (
    find_invisible,
    syntax_hint,
    without_typographic_quotes,
)
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

SIZE_LIMIT = 1 << 20
"""Bytes.  A recipe of a thousand concepts with eight prompts each has about a third."""
DEPTH_LIMIT = 8

# This is the C parser where PyYAML was built with it.  Base loaders read every scalar as text.
Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]{1,18}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (
        re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
        lambda text: float(text.replace(".", "")),
    ),
)
"""Patterns of words without quotes that are no text.  This is YAML 1.2's core schema without octal
and hexadecimal numbers; a whole number that does not fit into 64 bits is a float."""

ADVICE = "; quote text that has : or # in it, or begins with one of { [ & * ! | > % @ `"

YamlPath = tuple[str | int, ...]
"""Keys and list positions that lead to a value."""


@dataclass(frozen=True)
class Document:
    """Plain data (dicts, lists, scalars), and the 1-based line of each value by its path."""

    data: object
    lines: dict[YamlPath, int]


def read_document(path: Path) -> Document:
    """Parse one YAML file.  Raises RecipeError with file and line where YAML knows it."""
    return parse_document(read_text(path), path)


def parse_document(text: str, path: Path) -> Document:
    """Parse YAML text; ``path`` is the file that messages name.  Raises RecipeError."""
    try:
        _require_plain(text, path)
        loader = Loader(text)
        root = loader.get_single_node()
        lines: dict[YamlPath, int] = {}
        return Document(_build(root, (), lines, path), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        near = (syntax_hint(part) for part in reversed(text.split("\n")[max(line - 2, 0) : line]))
        advice = next(filter(None, near), ADVICE)
        _fail(path, line, f"not valid YAML: {error.problem}{advice}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        _fail(path, line, f"not valid YAML: {error.reason}")
    except yaml.YAMLError as error:
        _fail(path, None, f"not valid YAML: {error}")


def read_text(path: Path) -> str:
    """Read a recipe's text, at most ``SIZE_LIMIT`` bytes of UTF-8.  Raises RecipeError."""
    try:
        if path.suffix.lower() in CHECKPOINT_SUFFIXES or path.is_dir():
            kind = "folder" if path.is_dir() else "checkpoint by its name"
            _fail(path, None, f"is a {kind}, not a recipe; are recipe and checkpoint swapped?")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            _fail(path, None, "a recipe must be a regular file")
        if status.st_size > SIZE_LIMIT:
            _fail(path, None, f"has {status.st_size} bytes; a recipe may have {SIZE_LIMIT}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(describe_error(error)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        _fail(path, line, "is not UTF-8 text; save it as UTF-8")


def _require_plain(text: str, path: Path) -> None:
    """Check the parser's events before a tree is built from them, while refusing is cheap."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _fail(
                path,
                line,
                "anchors and aliases are not allowed in a recipe; quote text with & or *",
            )
        if tag:
            _fail(path, line, f"tags such as {tag} are not allowed in a recipe; quote text with !")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            _fail(path, line, f"nested more than {DEPTH_LIMIT} deep")


def _build(
    node: yaml.Node | None, path: YamlPath, lines: dict[YamlPath, int], file: Path
) -> object:
    if node is None:
        _fail(file, None, "is empty")
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_build(part, (*path, i), lines, file) for i, part in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                _fail(file, line, "a key must be a word")
            if key in result:
                _fail(file, line, f"{key} stands here twice")
            result[key] = _build(value_node, (*path, key), lines, file)
            lines[(*path, key)] = line
        return result
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node.value, file, lines[path], plain=not node.style)


def _scalar(text: str, file: Path, line: int, *, plain: bool) -> object:
    if found := find_invisible(text):
        _fail(file, line, f"{quoted(text)} has an invisible {found}; remove it")
    if not plain:
        return text
    if (without := without_typographic_quotes(text)) is not None:
        _fail(
            file,
            line,
            f"{text} has quotation marks that YAML takes for a part of it; write "
            f'"{without}", or "{text}" if they belong to it',
        )
    for pattern, value_of in _SCALARS:
        if pattern.fullmatch(text):
            return value_of(text)
    return text


def _fail(path: Path, line: int | None, problem: str) -> NoReturn:
    raise RecipeError(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")
