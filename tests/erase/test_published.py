"""The closed forms of other papers against their formulas, and what each of them promises."""

import numpy as np
import pytest
import torch
from torch import Tensor

from erasepro_convert.erase.published.cure import cure, spectral_projection
from erasepro_convert.erase.published.double_projections import double_projections, unused_basis
from erasepro_convert.erase.published.oce import ERASURE, IDENTITY, LANGUAGE, oce
from erasepro_convert.erase.published.speed import (
    AUGMENTED,
    empty_prompt_invariants,
    speed,
)
from erasepro_convert.erase.published.trce import trce
from tests import oracle

D, TARGETS, RETAINED = 24, 3, 40


class Case:
    """Random features, such as a layer norm gives, and one matrix that reads them."""

    def __init__(self, seed: int = 0, rows: int = 10, targets: int = TARGETS) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.w = self.normal(rows, D)
        self.x, self.y = self.normal(D, targets), self.normal(D, targets)
        basis = self.normal(D, D // 2)  # what is retained uses half of the directions
        self.r = basis @ self.normal(D // 2, RETAINED) + 0.01 * self.normal(D, RETAINED)
        self.language = self.normal(D, 200)
        self.language = self.language @ self.language.T / 200

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def arrays(self) -> tuple[oracle.Matrix, oracle.Matrix, oracle.Matrix, oracle.Matrix]:
        """W, X, Y and R for the oracle."""
        return self.w.numpy(), self.x.numpy(), self.y.numpy(), self.r.numpy()


def assert_equal(ours: Tensor, expected: oracle.Matrix) -> None:
    assert np.linalg.norm(ours.numpy() - expected) < 1e-9 * np.linalg.norm(expected)


def test_double_projections_is_the_published_formula() -> None:
    case = Case(targets=1)
    ours = case.w + case.w @ double_projections(case.x, case.y, case.r, 10)
    w, x, y, r = case.arrays()
    assert_equal(ours, oracle.double_projections(w, x, y, r, 10))


def test_double_projections_erases_all_targets_and_reads_nothing_retained() -> None:
    """Each target gives what its projection on the anchors gave; the retained hardly moves."""
    case = Case()
    m = double_projections(case.x, case.y, case.r, 10)
    proxies = case.y @ torch.linalg.pinv(case.y) @ case.x
    assert torch.allclose(case.w @ (case.x + m @ case.x), case.w @ proxies)
    moved = (m @ case.r).norm() / case.r.norm()
    assert moved < 0.05 < (m @ case.x).norm() / case.x.norm()


def test_cure_is_the_published_formula() -> None:
    case = Case()
    ours = case.w + case.w @ cure(case.x, case.r, 2.0)
    w, x, _, r = case.arrays()
    assert_equal(ours, oracle.cure(w, x, r, 2.0))


def test_expansion_goes_from_nothing_to_the_whole_span() -> None:
    x = Case().x
    assert torch.count_nonzero(spectral_projection(x, 0.0)) == 0
    assert torch.allclose(spectral_projection(x, 1e12), x @ torch.linalg.pinv(x))


def test_trce_is_the_published_formula() -> None:
    case = Case()
    ours = case.w + case.w @ trce(case.x, case.y, TARGETS, case.language, 0.01)
    w, x, y, _ = case.arrays()
    assert_equal(ours, oracle.trce(w, x, y, case.language.numpy(), 0.01))


@pytest.mark.parametrize("seed", range(4))
def test_oce_is_the_published_formula(seed: int) -> None:
    """With one target and with three M has an odd number of directions to reflect."""
    case = Case(seed, targets=1 + seed % 3)
    ours = case.w + oce(case.w, case.x, case.y, case.r, case.language, 1.0)
    w, x, y, r = case.arrays()
    settings = (ERASURE * D / 768, 1.0, LANGUAGE, IDENTITY)
    assert_equal(ours, oracle.oce(w, x, y, r, case.language.numpy(), settings))


@pytest.mark.parametrize("rows", [10, 40])
def test_oce_rotates_and_does_not_depend_on_what_is_beyond_the_outputs(rows: int) -> None:
    """Angles and lengths of outputs stay, W'ᵀW' = WᵀW; a taller matrix is the same rotation."""
    case = Case(rows=rows)
    new = case.w + oce(case.w, case.x, case.y, case.r, case.language, 1.0)
    assert torch.allclose(new.T @ new, case.w.T @ case.w)
    if rows > D:
        wider = torch.cat([case.w, torch.zeros(5, D, dtype=torch.float64)])
        again = wider + oce(wider, case.x, case.y, case.r, case.language, 1.0)
        assert torch.allclose(again[:rows], new)


def test_speed_is_the_published_formula() -> None:
    """The noise is drawn again as the augmentation draws it: a chunk, ten times over."""
    case = Case()
    k = empty_prompt_invariants(case.normal(D, 77))
    n = TARGETS
    second, change = case.x @ case.x.T / n, (case.y - case.x) @ case.x.T / n
    plain = case.w @ change @ torch.linalg.inv(torch.eye(D, dtype=torch.float64) + second)
    moved = (plain @ case.r).norm(dim=0)
    kept = int((moved > moved.mean()).sum())
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(D, kept * AUGMENTED, generator=random, dtype=torch.float64)
    ours = case.w + speed(case.w, case.x, case.y, n, case.r, k, 10)
    w, x, y, r = case.arrays()
    assert_equal(ours, oracle.speed(w, x, y, r, k.numpy(), 0.1, [noise.numpy()]))


def test_speed_moves_nothing_of_the_empty_prompt() -> None:
    case = Case()
    k = empty_prompt_invariants(case.normal(D, 77))
    delta = speed(case.w, case.x, case.y, TARGETS, case.r, k, 10)
    assert (delta @ k).norm() < 1e-10 * (delta @ case.x).norm()


def test_the_centres_of_the_empty_prompt_are_those_of_its_groups() -> None:
    """Three groups far apart have their means as centres; BOS comes first."""
    case = Case()
    groups = [10 * case.normal(D, 1) + 0.1 * case.normal(D, n) for n in (30, 26, 20)]
    bos = case.normal(D, 1)
    k = empty_prompt_invariants(torch.cat([bos, *groups], dim=1))
    assert torch.equal(k[:, :1], bos)
    means = torch.stack([group.mean(1) for group in groups], dim=1)
    assert torch.cdist(means.T, k[:, 1:].T).amin(1).max() < 1e-9


def test_no_retained_features_leave_all_directions_free() -> None:
    nothing = torch.empty(D, 0, dtype=torch.float64)
    assert unused_basis(nothing, 10).shape == (D, D)
    assert unused_basis(Case().r, 0).shape == (D, D)
