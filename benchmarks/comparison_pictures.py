"""docs/comparison.png: what the original and each method draw of some prompts of one task."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.comparison_tasks import Asked
from erasepro_convert.images.grid import GridRow, grid

PICTURED = "five"
"""The task whose pictures are shown, with the first training seed."""
ROWS = {
    "named": 3, "implied 1": 1, "implied 2": 1, "implied 3": 1, "neighbours": 1, "beside": 1,
    "others": 1, "colours": 1,
}  # fmt: skip
"""How many prompts of each column are shown, with the first picture seed of each."""
FOLDER = Path("build/comparison/pictures")
PICTURE = Path("docs/comparison.png")


def keep_pictures(method: str, asked: Sequence[Asked], pictures: Tensor) -> None:
    """Keep the pictures to show of a method, given all of them in the order of prompts and seeds.

    A folder of its own lets the page be made when every method has drawn.
    """
    first = np.cumsum([0, *(len(one.seeds) for one in asked)])
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = [int(first[asked.index(one)]) for one in shown(asked)]
    np.save(FOLDER / f"{method}.npy", pictures[rows].numpy())


def shown(asked: Sequence[Asked]) -> list[Asked]:
    """Choose the prompts to show."""
    return [
        one
        for column, count in ROWS.items()
        for one in [one for one in asked if one.column == column][:count]
    ]


def draw_pictures(methods: Sequence[str]) -> None:
    """Draw the page's picture, unless pictures of a method are not here."""
    from benchmarks.comparison_tasks import columns_of

    drawn = [method for method in methods if (FOLDER / f"{method}.npy").exists()]
    if len(drawn) < len(methods):
        print(f"{PICTURE} is left as it is: no pictures of {sorted({*methods} - {*drawn})}")
        return
    asked = shown([one for column in columns_of(PICTURED).values() for one in column])
    tensors = [torch.from_numpy(np.load(FOLDER / f"{method}.npy")) for method in drawn]
    rows = [
        GridRow(one.prompt, one.column, [tensor[i : i + 1] for tensor in tensors])
        for i, one in enumerate(asked)
    ]
    sheet = grid(drawn, rows).convert("RGB")
    sheet.quantize(256).save(PICTURE, optimize=True)
