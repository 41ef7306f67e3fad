"""Prompt datasets in the user's files: I2P and COCO captions, read row by row.

A row stands for one picture with its own seed.  Prompts are kept as published, with all blanks;
CLIP reads the first 77 tokens of them, as it does in the papers.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.csv_reader import CsvReader, read_lines
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest

SEEDS = 1 << 64
"""torch takes seeds below this number."""

LARGEST_JSON = 1 << 28
"""The largest JSON file in bytes; COCO's captions of 2014 with the training set have a third."""


@dataclass(frozen=True)
class DatasetPrompt(EvalPrompt):
    """A prompt for one picture, with its seed and, where the file has one, its guidance scale.

    ``concept`` holds the categories of an I2P prompt, and the caption itself for COCO.
    """

    seed: int
    guidance: float | None = None

    def requests(self, seeds: int, guidance: float) -> tuple[ImageRequest, ...]:
        """Return the one picture that the row stands for, with the row's own seed."""
        del seeds
        scale = guidance if self.guidance is None else self.guidance
        return (ImageRequest(self.prompt, self.seed, scale),)


def read_dataset(path: Path) -> Iterator[DatasetPrompt]:
    """Read a file whose form is recognised by its columns.

    I2P is a CSV with ``prompt``, ``categories`` and ``sd_seed``, and sometimes
    ``sd_guidance_scale``; papers on erasure call the latter two ``evaluation_seed`` and
    ``evaluation_guidance``.  COCO is either a CSV of such a paper, with ``prompt``,
    ``evaluation_seed`` and ``coco_id`` or ``image_id``, or COCO's own JSON.  From the JSON each
    image's first caption is taken, with the image's number as its seed.

    Raises UsageError, with the line, when it comes to a row that is wrong, and at once for a file
    of another form; OSError passes through.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return _first_captions(path, _annotations(path))
    table = CsvReader(read_lines(path), str(path))
    seed = _first_of(table, "sd_seed", "evaluation_seed")
    image = _first_of(table, "coco_id", "image_id")
    if seed and {"prompt", "categories"}.issubset(table.columns):
        return _i2p(table, seed)
    if seed and image and "prompt" in table.columns:
        return _coco(table, seed, image)
    raise UsageError(
        f"{path}: neither I2P (prompt, categories, sd_seed) nor COCO captions (prompt, "
        f"evaluation_seed, coco_id): its columns are {', '.join(table.columns)[:200]}"
    )


def _i2p(table: CsvReader, seed: str) -> Iterator[DatasetPrompt]:
    """Give I2P's prompts; ``seed`` is the name of the column with seeds."""
    guidance = _first_of(table, "sd_guidance_scale", "evaluation_guidance")
    for number, row in enumerate(table):
        yield DatasetPrompt(
            concept=row["categories"],
            anchor="",
            role="implied",
            prompt=row["prompt"],
            prompt_id=f"i2p-{row.get('case_number', number)}",
            seed=_whole_number(table, row, seed),
            guidance=_guidance(table, row, guidance) if guidance else None,
        )


def _coco(table: CsvReader, seed: str, image: str) -> Iterator[DatasetPrompt]:
    """Give a paper's COCO captions; ``seed`` and ``image`` are names of columns."""
    for row in table:
        yield _caption(
            row["prompt"], _whole_number(table, row, image), _whole_number(table, row, seed)
        )


def _caption(text: str, image: int, seed: int) -> DatasetPrompt:
    return DatasetPrompt(text, "", "other", text, f"coco-{image}", seed)


def _first_captions(path: Path, annotations: list[object]) -> Iterator[DatasetPrompt]:
    """Give each image's first caption.  Raises UsageError for an annotation of another form."""
    seen = set()
    for index, entry in enumerate(annotations):
        match entry:
            case (int(image), str(text)) if 0 <= image < SEEDS:
                if image not in seen:
                    seen.add(image)
                    yield _caption(text, image, seed=image)
            case _:
                raise UsageError(
                    f"{path}: annotations[{index}]: image_id should be a number, caption text"
                )


def _annotations(path: Path) -> list[object]:
    """Read the annotations of COCO's JSON, each as (image, caption)."""
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise UsageError(f"{path}: has {size} bytes; COCO's captions have fewer")
    try:
        data = json.loads(path.read_text("utf-8-sig"), object_hook=_reduce)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(annotations, list):
        raise UsageError(f"{path}: no COCO captions: it has no list of annotations")
    return annotations


def _reduce(entry: dict[str, object]) -> object:
    """Keep only what is needed of an object in COCO's JSON, to save memory."""
    if "caption" in entry:
        return entry.get("image_id"), entry["caption"]
    return None if "file_name" in entry else entry


def _first_of(table: CsvReader, *columns: str) -> str | None:
    """Return the first of these columns that the table has."""
    return next((column for column in columns if column in table.columns), None)


def _whole_number(table: CsvReader, row: dict[str, str], column: str) -> int:
    """Return a cell as a number below 2^64.  Raises UsageError for any other cell."""
    text = row[column]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < SEEDS):
        table.fail(f"{column} {text[:60]!r} is no whole number from 0 to 2^64 - 1")
    return int(text)


def _guidance(table: CsvReader, row: dict[str, str], column: str) -> float | None:
    """Return the guidance scale of a row, None where the cell is empty."""
    text = row[column]
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not (isfinite(value) and value >= 0):
        table.fail(f"{column} {text[:60]!r} is no guidance scale")
    return value
