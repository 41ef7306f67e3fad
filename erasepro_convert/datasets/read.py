"""Reading a dataset whose form is recognised by its columns or keys.

CSV files are read row by row, so that their size does not matter.  Prompts are kept as published;
CLIP reads the first 77 tokens of them, as it does in the papers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.datasets.csv_reader import CsvReader, read_lines
from erasepro_convert.datasets.emma import read_emma
from erasepro_convert.datasets.hub import (
    FOLDERS,
    LANGUAGES,
    read_hub_languages,
    read_hub_lines,
    read_hub_nouns,
    read_hub_sentences,
)
from erasepro_convert.datasets.i2p_coco import read_captions, read_coco, read_i2p
from erasepro_convert.datasets.json_file import read_json
from erasepro_convert.datasets.lists import MMA, read_mma, read_names, read_seeded, read_speed
from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.errors import UsageError


@dataclass(frozen=True)
class TableForm:
    """A form of CSV: the columns it is known by, and its reader."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[CsvReader], Iterator[PublishedPrompt]]


TABLES = (
    TableForm("I2P", ("prompt", "categories", "sd_seed"), read_i2p),
    TableForm("I2P of papers", ("prompt", "categories", "evaluation_seed"), read_i2p),
    TableForm("COCO captions", ("prompt", "evaluation_seed", "coco_id"), read_captions),
    TableForm("COCO captions", ("prompt", "evaluation_seed", "image_id"), read_captions),
    TableForm("COCO captions", ("image_id", "text"), read_captions),
    TableForm("SPEED", ("id", "type", "text", "concept", "seed"), read_speed),
    TableForm("concepts", ("id", "concept"), read_names),
    TableForm("HUB multilingual", LANGUAGES, read_hub_languages),
    TableForm("HUB pinpoint", ("noun", "similarity"), read_hub_nouns),
    TableForm("MMA-Diffusion", tuple(MMA), read_mma),
    TableForm("prompts with seeds", ("prompt", "evaluation_seed"), read_seeded),
)
"""A table has the first form whose columns it has."""


def read_dataset(path: Path) -> Iterator[PublishedPrompt]:
    """Read a file of prompts in its published form.

    Raises UsageError, with the line, when it comes to a row that is wrong, and at once for a file
    of another form; OSError passes through.
    """
    if (folder := path.absolute().parent.name) in FOLDERS:
        return read_hub_lines(path, folder)
    with open(path, "rb") as file:
        start = file.read(64)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
        return _read_json(path)
    table = CsvReader(read_lines(path), path)
    for form in TABLES:
        if set(form.columns) <= set(table.columns):
            return form.read(table)
    known = "; ".join(f"{form.name} ({', '.join(form.columns)})" for form in TABLES)
    raise UsageError(
        f"{path}: its columns, {', '.join(table.columns)[:200] or 'none'}, are those of no known "
        f"dataset: {known}"
    )


def _read_json(path: Path) -> Iterator[PublishedPrompt]:
    data = read_json(path)
    entries: list[object] = data if isinstance(data, list) else [data]
    match entries:
        case [{"annotations": list(annotations)}]:
            return read_coco(path, annotations)
        case [{"prompt": _, "nouns": _}, *_]:
            return read_hub_sentences(path, entries)
        case [dict(first), *_] if first and all(isinstance(v, list) for v in first.values()):
            return read_emma(path, entries)
    raise UsageError(
        f"{path}: it has the keys of no known dataset: COCO's captions (annotations), HUB's "
        "selective_alignment (a list of prompt, nouns, index), EMMA (lists of prompts by concept)"
    )
