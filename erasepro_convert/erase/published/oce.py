"""OCE: orthogonal concept erasure (ICML 2026), from its formulas.

Each matrix of values is rotated, W' = QW, so that the outputs of targets leave the directions that
tell them from their anchors, while outputs of language and of what is retained stay.  Q is the
rotation with the largest trace of QᵀM,

    M = −s_e·G(I − G*) + s_p·WR(WR)ᵀ + s_g·W·C·Wᵀ + λ·WWᵀ

G and G* project on the outputs of targets and of anchors, C is the second moment of language.
"""

import torch
from torch import Tensor

from erasepro_convert.erase.closed_form import RANK_CUTOFF
from erasepro_convert.erase.direct_form import Update, direct_form
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read
from erasepro_convert.recipe import Recipe

ERASURE, LANGUAGE, IDENTITY = 2000.0, 10.0, 10.0
"""s_e, s_g and λ: the paper's for objects.  For styles s_e is 500, for nudity 3000 (s_g 20)."""
WIDTH = 768
"""The width of features that s_e is made for: the terms beside it grow with the width."""


def form(recipe: Recipe) -> Form:
    """Return the closed form; ``retain.weight`` is s_p."""

    def prepare(read: Read) -> Update:
        x, y, r = read.xy.x, read.xy.y, read.retained_features
        language, weight = read.language_moment, recipe.retain.weight
        return lambda w: oce(w, x, y, r, language, weight)

    return direct_form(prepare, knows_language=True)


def oce(
    w: Tensor, x: Tensor, y: Tensor, r: Tensor, language: Tensor, preservation: float
) -> Tensor:
    """Return the update Δ = (Q − I)W (m × d); ``preservation`` is s_p.

    Outputs span at most d directions.  In a larger matrix the other ones would be rotated at
    random and read by nothing, so Q is found within the span.
    """
    span, reduced = w.new_tensor(()), w
    is_tall = w.shape[0] > w.shape[1]
    if is_tall:
        span, reduced = torch.linalg.qr(w)
    target, anchor = (_projection(reduced @ features) for features in (x, y))
    kept = reduced @ r
    m = preservation * kept @ kept.T + LANGUAGE * reduced @ language @ reduced.T
    erasure = ERASURE * w.shape[1] / WIDTH
    m += IDENTITY * reduced @ reduced.T - erasure * (target - target @ anchor)
    u, _, vt = torch.linalg.svd(m)
    if not is_tall and torch.linalg.det(u @ vt) < 0:  # beyond the span a reflection can be undone
        u[:, -1] *= -1
    rotated: Tensor = u @ vt @ reduced
    return (span @ rotated if is_tall else rotated) - w


def _projection(outputs: Tensor) -> Tensor:
    """The projection (m × m) on the span of outputs (m × n)."""
    u, s, _ = torch.linalg.svd(outputs, full_matrices=False)
    basis: Tensor = u[:, s > RANK_CUTOFF[s.dtype] * s[:1]]
    return basis @ basis.T
