"""Double Projections: Zhang et al. (CVPR 2026, arXiv 2604.10032), from its formulas.

A target is replaced by its projection C* on what is safe, by an update that reads nothing of what
is retained:

    C* = SS⁺X        W' = W + W(C* − X)(NᵀX)⁺Nᵀ

S are the anchors of all targets, N (d × p) is an orthonormal basis of what retained features hardly
use.  For one target (NᵀX)⁺ is xᵀN/‖Nᵀx‖², as the paper writes it.
"""

import torch
from torch import Tensor

from erasepro_convert.erase.direct_form import product_form
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read
from erasepro_convert.recipe import Recipe


def form(recipe: Recipe) -> Form:
    """Return the closed form; ``retain.weight`` is what ``unused_basis`` asks for."""

    def product(read: Read) -> Tensor:
        x, y, r = read.xy.x, read.xy.y, read.retained_features
        return double_projections(x, y, r, recipe.retain.weight)

    return product_form(product)


def double_projections(x: Tensor, y: Tensor, r: Tensor, weight: float) -> Tensor:
    """Return M (d × d) of the update Δ = WM; ``weight`` is what ``unused_basis`` asks for."""
    safe = y @ (torch.linalg.pinv(y) @ x)
    basis = unused_basis(r, weight)
    m: Tensor = (safe - x) @ torch.linalg.pinv(basis.T @ x) @ basis.T
    return m


def unused_basis(r: Tensor, weight: float) -> Tensor:
    """Return an orthonormal basis (d × p) of directions that features (d × k) hardly use.

    Those are the eigenvectors of the mean of r·rᵀ whose eigenvalues are below 1/weight; all of them
    where there are no features, or where they have no weight.
    """
    values, vectors = torch.linalg.eigh(r @ r.T / max(1, r.shape[1]))
    unused: Tensor = vectors[:, weight * values < 1]
    return unused
