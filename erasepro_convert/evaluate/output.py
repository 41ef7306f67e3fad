"""An evaluation as JSON, CSV and a picture."""

import csv
import json
from collections.abc import Iterator
from io import StringIO

import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.evaluate.figures import Value
from erasepro_convert.evaluate.pictures import MODELS, Pictures
from erasepro_convert.evaluate.plan import Role
from erasepro_convert.evaluate.run import Evaluation
from erasepro_convert.images.grid import Row, grid

SHOWN = 4
"""Seeds of a prompt that the picture shows."""
ROWS = 3
"""Prompts of each kind that it shows."""
SIDES = ("original", "erased", "difference")


def to_json(evaluation: Evaluation) -> str:
    """Everything but the pictures: sorted, with a final newline."""
    data = evaluation.to_data()
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """A line a figure, with intervals and counts."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{side}{part}" for side in SIDES for part in ("", "_low", "_high")]
    writer.writerow(["judge", "concept", "column", "better", *columns, "images", "prompts"])
    for f in evaluation.figures:
        values = [cell for side in SIDES for cell in _cells(getattr(f, side))]
        writer.writerow(
            [f.judge, f.concept or "", f.column, f.better, *values, f.images, f.prompts]
        )
    return text.getvalue()


def _cells(value: Value | None) -> list[float | str]:
    if value is None:
        return ["", "", ""]
    inside = value.interval
    return [value.value, inside.low if inside else "", inside.high if inside else ""]


def picture(evaluation: Evaluation) -> Image.Image:
    """Some prompts of each kind, the original's pictures beside the erased model's."""
    rows = []
    for heading, original, erased in _groups(evaluation):
        for prompt in list(dict.fromkeys(original.owners))[:ROWS]:
            sides = [_tensor(side.of_prompt(prompt, SHOWN)) for side in (original, erased)]
            rows.append(Row(prompt, heading, sides))
    return grid(("original", "erased"), rows)


def _groups(evaluation: Evaluation) -> Iterator[tuple[str, Pictures, Pictures]]:
    gallery = evaluation.gallery
    wanted: list[tuple[str, str | None, Role]] = []
    for target, _ in gallery.pairs:
        wanted += [
            (f"{target}, named", target, "target"),
            (f"{target}, implied", target, "implied"),
        ]
    for heading, concept, role in [*wanted, ("others", None, "other")]:
        original, erased = (gallery(model, concept, role) for model in MODELS)
        if original and erased:
            yield heading, original, erased


def _tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures.pixels()).permute(0, 3, 1, 2)
