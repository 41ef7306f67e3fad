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
from erasepro_convert.evaluate.run import Evaluation, Gallery
from erasepro_convert.images.grid import Row, grid
from erasepro_convert.runtime.hashing import pretty_json

SHOWN = 4
"""Seeds of a prompt that the picture shows."""
ROWS = 3
"""Prompts of each kind that it shows."""
SIDES = ("original", "erased", "difference")


def to_json(evaluation: Evaluation) -> str:
    """Everything but the pictures: sorted, with a final newline."""
    return pretty_json(evaluation.to_data())


def to_csv(evaluation: Evaluation) -> str:
    """A line a figure, with intervals and counts."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{side}{part}" for side in SIDES for part in ("", "_low", "_high")]
    writer.writerow(["judge", "concept", "column", "better", *columns, "images", "prompts"])
    for f in evaluation.figures:
        values = [cell for side in SIDES for cell in cells(getattr(f, side))]
        writer.writerow(
            [f.judge, f.concept or "", f.column, f.better, *values, f.images, f.prompts]
        )
    return text.getvalue()


def cells(value: Estimate | None) -> list[float | str]:
    """Of a figure in a CSV: itself and the ends of its interval; empty where there are none."""
    if value is None:
        return ["", "", ""]
    inside = value.interval
    return [value.value, inside.low if inside else "", inside.high if inside else ""]


def picture(evaluations: Mapping[str, Evaluation]) -> Image.Image:
    """Some prompts of each kind: the original's pictures beside those of erased models, by name."""
    rows = []
    for heading, sides in _groups([one.gallery for one in evaluations.values()]):
        for prompt in list(dict.fromkeys(sides[0].owners))[:ROWS]:
            made = [_tensor(side.of_prompt(prompt, SHOWN)) for side in sides]
            rows.append(Row(prompt, heading, made))
    return grid(("original", *evaluations), rows)


def _groups(galleries: Sequence[Gallery]) -> Iterator[tuple[str, list[Pictures]]]:
    gallery = galleries[0]
    wanted: list[tuple[str, str | None, Role]] = []
    for target, _ in gallery.pairs:
        wanted += [
            (f"{target}, named", target, "target"),
            (f"{target}, implied", target, "implied"),
        ]
    for heading, concept, role in [*wanted, ("others", None, "other")]:
        original = gallery("original", concept, role)
        erased = [one("erased", concept, role) for one in galleries]
        sides = [side for side in (original, *erased) if side]
        if len(sides) > len(galleries):
            yield heading, sides


def _tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures.pixels()).permute(0, 3, 1, 2)
