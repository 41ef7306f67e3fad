"""YAML text to plain data, with the line of everything in it, refusing what a recipe never needs.

Aliases (the billion-laughs bomb), tags, repeated keys, deep nesting and huge files are refused
before anything is built from them.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from erasepro_convert.errors import RecipeError

SIZE_LIMIT = 1 << 20
"""Bytes; a recipe of a thousand concepts with eight prompts each has about a third of it."""
DEPTH_LIMIT = 8

Loader = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the C parser, where PyYAML was built with it

YamlPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data (dicts, lists, scalars), and the 1-based line of each value by its path."""

    data: object
    lines: dict[YamlPath, int]


def read_document(path: Path) -> Document:
    """Parse one YAML file.  Raises RecipeError with file and line where YAML knows it."""
    text = _read_text(path)
    try:
        _require_plain(text, path)
        loader = Loader(text)
        root = loader.get_single_node()
        lines: dict[YamlPath, int] = {}
        return Document(_build(loader, root, (), lines, path), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _fail(path, mark.line + 1 if mark else None, f"not valid YAML: {error.problem}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        _fail(path, line, f"not valid YAML: {error.reason}")
    except yaml.YAMLError as error:
        _fail(path, None, f"not valid YAML: {error}")


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            _fail(path, None, "a recipe must be a regular file")
        if status.st_size > SIZE_LIMIT:
            _fail(path, None, f"has {status.st_size} bytes; a recipe may have {SIZE_LIMIT}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        _fail(path, None, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        _fail(path, line, "is not UTF-8 text")


def _require_plain(text: str, path: Path) -> None:
    """Walk the parser's events, which cost nothing to refuse, before composing a tree."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _fail(path, line, "anchors and aliases (& and *) are not allowed in a recipe")
        if tag:
            _fail(path, line, f"tags such as {tag} are not allowed in a recipe")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            _fail(path, line, f"nested more than {DEPTH_LIMIT} deep")


def _build(
    loader: yaml.SafeLoader,
    node: yaml.Node | None,
    path: YamlPath,
    lines: dict[YamlPath, int],
    file: Path,
) -> object:
    if node is None:
        _fail(file, None, "is empty")
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, part, (*path, i), lines, file) for i, part in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                _fail(file, line, "a key must be a word")
            if key in result:
                _fail(file, line, f"{key} stands here twice")
            result[key] = _build(loader, value_node, (*path, key), lines, file)
            lines[(*path, key)] = line
        return result
    try:
        return loader.construct_object(node)
    except ValueError as error:
        _fail(file, lines[path], f"not a value: {error}")


def _fail(path: Path, line: int | None, problem: str) -> NoReturn:
    raise RecipeError(f"{path}:{line}: {problem}" if line else f"{path}: {problem}")
