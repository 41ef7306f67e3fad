"""SPEED: Li et al. (ICLR 2026), with its filter, its augmentation and its invariants.

The update of a matrix of values reads only what retained features hardly use, and nothing of the
empty prompt:

    Δ = W(A − T)P[I − MK(KᵀPMK)⁻¹KᵀP]M        M = (TP + I)⁻¹

A and T are the means of y·xᵀ and x·xᵀ, P projects on the directions that retained features hardly
use, K (d × 4) are BOS and three centres of the empty prompt's other features.

Which retained features count depends on the matrix.  Those that the plain update Δ_e =
W(A − T)(I + T)⁻¹ would move by more than the mean are kept.  To each come ten others, moved by
chance along the direction that the matrix reads least; those are filtered again, in chunks.
"""

import torch
from torch import Tensor

from erasepro_convert.erase.direct_form import Update, direct_form
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.published.double_projections import unused_basis
from erasepro_convert.erase.read_features import Read
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1.keys import POSITIONS

AUGMENTED = 10
CHUNK = 128
CENTRES = 3
ROUNDS = 100
"""The most rounds of Lloyd's algorithm."""


def form(recipe: Recipe) -> Form:
    """Return the closed form; ``retain.weight`` is what ``unused_basis`` asks for."""

    def prepare(read: Read) -> Update:
        x, y, r = read.xy.x, read.xy.y, read.retained_features
        feeds = read.empty_prompt_features.split(POSITIONS, dim=1)
        invariants = torch.cat([empty_prompt_invariants(feed) for feed in feeds], dim=1)
        weight = recipe.retain.weight
        return lambda w: speed(w, x, y, read.count, r, invariants, weight)

    return direct_form(prepare, reads_empty_prompt=True)


def speed(
    w: Tensor, x: Tensor, y: Tensor, count: int, r: Tensor, invariants: Tensor, weight: float
) -> Tensor:
    """Return the update Δ (m × d).

    ``count`` is the number of pairs (X and Y may be compressed), ``invariants`` is K, ``weight`` is
    what ``unused_basis`` asks for.
    """
    identity = torch.eye(len(x), dtype=x.dtype)
    second, change = x @ x.T / count, (y - x) @ x.T / count  # T, A − T
    plain = w @ change @ torch.linalg.inv(identity + second)
    basis = unused_basis(_influential(w, r, plain), weight)
    p = basis @ basis.T
    m = torch.linalg.inv(second @ p + identity)
    read = invariants.T @ p
    held = m @ invariants @ torch.linalg.pinv(read @ m @ invariants) @ read
    delta: Tensor = w @ change @ p @ (identity - held) @ m
    return delta


def _influential(w: Tensor, r: Tensor, plain: Tensor) -> Tensor:
    """Filter and augment retained features (d × k) for one matrix."""
    if not r.shape[1]:
        return r
    kept = _above_mean(r, plain)
    least = torch.linalg.svd(w, full_matrices=False).Vh[-1]
    random = torch.Generator().manual_seed(0)
    parts = []
    for chunk in kept.split(CHUNK, dim=1):
        many = chunk.repeat(1, AUGMENTED)
        noise = torch.randn(many.shape, generator=random, dtype=torch.float64)
        parts += [chunk, _above_mean(many + torch.outer(least, least @ noise), plain)]
    return torch.cat(parts, dim=1)


def _above_mean(features: Tensor, plain: Tensor) -> Tensor:
    """Those features that the plain update moves by more than the mean; all where all are alike."""
    moved = (plain @ features).norm(dim=0)
    kept = moved > moved.mean()
    return features[:, kept] if kept.any() else features


def empty_prompt_invariants(empty: Tensor) -> Tensor:
    """Return K (d × 4): BOS and three centres of the other features of an empty prompt (d × 77).

    Centres are those of k-means, which begins with the feature after BOS and with the ones that are
    farthest from all before.
    """
    others = empty[:, 1:]
    centres = others[:, :1]
    while centres.shape[1] < CENTRES:
        farthest = torch.cdist(others.T, centres.T).amin(1).argmax()
        centres = torch.cat([centres, others[:, farthest, None]], dim=1)
    for _ in range(ROUNDS):
        nearest = torch.cdist(others.T, centres.T).argmin(1)
        moved = torch.stack(
            [
                others[:, nearest == i].mean(1) if (nearest == i).any() else centres[:, i]
                for i in range(CENTRES)
            ],
            dim=1,
        )
        if torch.equal(moved, centres):
            break
        centres = moved
    return torch.cat([empty[:, :1], centres], dim=1)
