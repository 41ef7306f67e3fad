"""TRCE, first stage: Chen et al. (ICCV 2025, arXiv 2503.07389).

Targets are sent to their anchors at EOS, which has read the whole prompt, beside a prior of common
language: the W' that minimises

    mean ‖W'x − Wy‖² + η · mean ‖W'l − Wl‖²

over pairs (x, y) and features l of language.
"""

import torch
from torch import Tensor

from erasepro_convert.erase.direct_form import product_form
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read
from erasepro_convert.recipe import Recipe


def form(recipe: Recipe) -> Form:
    """Return the closed form; ``retain.weight`` is η."""

    def product(read: Read) -> Tensor:
        x, y, weight = read.xy.x, read.xy.y, recipe.retain.weight
        return trce(x, y, read.count, read.language_moment, weight)

    return product_form(product, knows_language=True)


def trce(x: Tensor, y: Tensor, count: int, language: Tensor, weight: float) -> Tensor:
    """Return M (d × d) of the update Δ = WM.

    ``count`` is the number of pairs (X and Y may be compressed), ``language`` the mean of l·lᵀ
    (d × d) and ``weight`` is η.
    """
    normal = x @ x.T / count + weight * language
    m: Tensor = (y - x) @ x.T / count @ torch.linalg.pinv(normal, hermitian=True)
    return m
