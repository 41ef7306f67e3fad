"""CURE: the Spectral Eraser of Biswas et al. (NeurIPS 2025, arXiv 2505.12677).

What targets span is taken out of a matrix, but for what retained features span, too:

    W' = W(I − P_X + P_X·P_R)

P = U·diag(f(r))·Uᵀ projects on the left singular vectors of features, the more the larger the share
r = σ²/Σσ² of each.  The anchor plays no part.
"""

import torch
from torch import Tensor

from erasepro_convert.erase.direct_form import product_form
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read
from erasepro_convert.recipe import Recipe

EXPANSION = 2.0
"""α of the targets: the paper's for objects and styles (5 for nudity)."""


def form(recipe: Recipe) -> Form:
    """Return the closed form; ``retain.weight`` is α of what is retained."""

    def product(read: Read) -> Tensor:
        return cure(read.xy.x, read.retained_features, recipe.retain.weight)

    return product_form(product)


def cure(x: Tensor, r: Tensor, expansion: float) -> Tensor:
    """Return M (d × d) of the update Δ = WM; ``expansion`` is α of what is retained."""
    target = spectral_projection(x, EXPANSION)
    return target @ spectral_projection(r, expansion) - target


def spectral_projection(features: Tensor, expansion: float) -> Tensor:
    """U·diag(f)·Uᵀ (d × d) of features (d × n), with f(r) = αr / ((α − 1)r + 1).

    α → ∞ is the projection on their span, α = 0 is zero.
    """
    u, s, _ = torch.linalg.svd(features, full_matrices=False)
    share = s.square() / s.square().sum()
    f = expansion * share / ((expansion - 1) * share + 1)
    projection: Tensor = (u * f) @ u.T
    return projection
