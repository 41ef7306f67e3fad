"""An evaluation as JSON, CSV and a picture."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO

import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.plan import Role
from erasepro_convert.evaluate.results import Estimate
from erasepro_convert.evaluate.run import DrawnPictures, Evaluation
from erasepro_convert.images.grid import GridRow, grid
from erasepro_convert.runtime.hashing import pretty_json

GRID_SEEDS = 4
"""How many pictures of a prompt the grid shows."""
GRID_PROMPTS = 3
"""How many prompts of each kind the grid shows."""
SIDES = ("original", "erased", "difference")


def to_json(evaluation: Evaluation) -> str:
    """Write everything but the pictures as JSON, with sorted keys and a final newline."""
    return pretty_json(evaluation.to_data())


def to_csv(evaluation: Evaluation) -> str:
    """Write a line for each metric, with intervals and counts."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{side}{part}" for side in SIDES for part in ("", "_low", "_high")]
    writer.writerow(["judge", "concept", "column", "better", *columns, "images", "prompts"])
    for m in evaluation.metrics:
        values = [cell for side in SIDES for cell in estimate_cells(getattr(m, side))]
        writer.writerow(
            [m.judge, m.concept or "", m.column, m.better, *values, m.images, m.prompts]
        )
    return text.getvalue()


def estimate_cells(estimate: Estimate | None) -> list[float | str]:
    """Return three CSV cells: the value and the ends of its interval, empty where missing."""
    if estimate is None:
        return ["", "", ""]
    interval = estimate.interval
    return [estimate.value, interval.low if interval else "", interval.high if interval else ""]


def draw_grid(evaluations: Mapping[str, Evaluation]) -> Image.Image:
    """Draw some prompts of each kind: the original's column first, then each evaluated model's."""
    rows = []
    for heading, columns in _columns_by_kind([e.pictures for e in evaluations.values()]):
        for prompt in list(dict.fromkeys(columns[0].prompt_texts))[:GRID_PROMPTS]:
            tensors = [_tensor(column.first_of_prompt(prompt, GRID_SEEDS)) for column in columns]
            rows.append(GridRow(prompt, heading, tensors))
    return grid(("original", *evaluations), rows)


def _columns_by_kind(
    evaluated: Sequence[DrawnPictures],
) -> Iterator[tuple[str, list[Pictures]]]:
    """Give a heading for each kind of prompt, with the pictures of the original and each model."""
    first = evaluated[0]
    kinds: list[tuple[str, str | None, Role]] = []
    for target, _ in first.pairs:
        kinds += [
            (f"{target}, named", target, "target"),
            (f"{target}, implied", target, "implied"),
        ]
    for heading, concept, role in [*kinds, ("others", None, "other")]:
        original = first("original", concept, role)
        erased = [pictures("erased", concept, role) for pictures in evaluated]
        columns = [column for column in (original, *erased) if column]
        if len(columns) > len(evaluated):
            yield heading, columns


def _tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures.pixels()).permute(0, 3, 1, 2)
