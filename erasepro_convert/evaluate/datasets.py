"""Published prompts from the user's own files: I2P and COCO captions, a row at a time.

A row is one picture with a seed of its own.  Prompts are as published, blanks and all; CLIP reads
the first 77 tokens of them, as it does in the papers.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.csv_table import Table, text_lines
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest

SEEDS = 1 << 64
"""torch takes seeds below."""

LARGEST_JSON = 1 << 28
"""Bytes; COCO's captions of 2014, training set included, have a third of it."""


@dataclass(frozen=True)
class Row(EvalPrompt):
    """A prompt for one picture, with its seed and, where the file has one, its guidance scale.

    ``concept`` is an I2P prompt's categories, a caption itself.
    """

    seed: int
    guidance: float | None = None

    def shots(self, seeds: int, guidance: float) -> tuple[ImageRequest, ...]:
        """The one picture that it is."""
        del seeds
        own = guidance if self.guidance is None else self.guidance
        return (ImageRequest(self.prompt, self.seed, own),)


def read_dataset(path: Path) -> Iterator[Row]:
    """The rows of a file that is recognised by its columns.

    I2P: CSV with ``prompt``, ``categories`` and ``sd_seed``, maybe ``sd_guidance_scale``, or as
    papers on erasure spell these two, ``evaluation_seed`` and ``evaluation_guidance``.  COCO: their
    CSV with ``prompt``, ``evaluation_seed`` and ``coco_id`` or ``image_id``; or COCO's own JSON, of
    which each image's first caption is taken, with the image's number as its seed.

    Raises UsageError, with the line, for what is none, at the row that is wrong; OSError passes
    through.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return _first_captions(path, _annotations(path))
    table = Table(text_lines(path), str(path))
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


def _i2p(table: Table, seed: str) -> Iterator[Row]:
    guidance = _first_of(table, "sd_guidance_scale", "evaluation_guidance")
    for number, row in enumerate(table):
        yield Row(
            concept=row["categories"],
            anchor="",
            role="implied",
            prompt=row["prompt"],
            prompt_id=f"i2p-{row.get('case_number', number)}",
            seed=_whole(table, row, seed),
            guidance=_scale(table, row, guidance) if guidance else None,
        )


def _coco(table: Table, seed: str, image: str) -> Iterator[Row]:
    for row in table:
        yield _caption(row["prompt"], _whole(table, row, image), _whole(table, row, seed))


def _caption(text: str, image: int, seed: int) -> Row:
    return Row(text, "", "other", text, f"coco-{image}", seed)


def _first_captions(path: Path, annotations: list[object]) -> Iterator[Row]:
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
    """Of COCO's JSON, each as (image, caption)."""
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise UsageError(f"{path}: has {size} bytes; COCO's captions have fewer")
    try:
        data = json.loads(path.read_text("utf-8-sig"), object_hook=_lean)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(annotations, list):
        raise UsageError(f"{path}: no COCO captions: it has no list of annotations")
    return annotations


def _lean(entry: dict[str, object]) -> object:
    """What is needed of an object in COCO's JSON, so that the rest is not kept."""
    if "caption" in entry:
        return entry.get("image_id"), entry["caption"]
    return None if "file_name" in entry else entry


def _first_of(table: Table, *columns: str) -> str | None:
    return next((column for column in columns if column in table.columns), None)


def _whole(table: Table, row: dict[str, str], column: str) -> int:
    text = row[column]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < SEEDS):
        table.fail(f"{column} {text[:60]!r} is no whole number from 0 to 2^64 - 1")
    return int(text)


def _scale(table: Table, row: dict[str, str], column: str) -> float | None:
    """None where nothing stands there."""
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
