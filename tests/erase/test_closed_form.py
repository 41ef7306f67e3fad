"""The closed forms against plain float64 formulas, and the theorems behind them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from erasepro_convert.erase.closed_form import (
    RIDGE,
    Columns,
    Factor,
    Retained,
    Spectrum,
    factorise,
    moment,
    null_space_factor,
    pseudo_inverse,
    retain_norm,
    ridge,
    update,
    update_norm,
    within,
)
from erasepro_convert.language.moments import with_constant
from tests.oracle import eq2, eq5, null_space

Problem = tuple[Tensor, Tensor, Tensor]


def problem(m: int, d: int, n: int, seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((m, d), (d, n), (d, n))
    w, x, y = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return w, x, y


def solve(
    w: Tensor, x: Tensor, y: Tensor, spectrum: Spectrum, norm: Tensor | None = None
) -> Tensor:
    """The update of w."""
    factor = factorise(x, norm)
    return updated(w @ (y - x) @ factor.v, factor, spectrum)


def updated(residual: Tensor, factor: Factor, spectrum: Spectrum) -> Tensor:
    """The update, given W_o(Y − X)V."""
    return update(residual, factor, spectrum(factor.s, residual.square().sum(0)))


problems = st.builds(
    problem, st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99)
)


@settings(deadline=None)
@given(problems)
def test_the_updates_are_the_papers(given_problem: Problem) -> None:
    """Eq. 5 and Eq. 2, whether X is wide, tall or square."""
    w, x, y = given_problem
    arrays = w.numpy(), x.numpy(), y.numpy()
    for spectrum, formula in ((pseudo_inverse, eq5), (ridge, eq2)):
        ours = w + solve(w, x, y, spectrum)
        np.testing.assert_allclose(ours.numpy(), formula(*arrays), rtol=1e-7, atol=1e-7)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 99))
def test_zero_residual_at_the_least_cost(d: int, seed: int) -> None:
    """Eq. 4: WX = W_oY holds, and any other solution is further from W_o."""
    w, x, y = problem(3, d, d // 2, seed)
    least = solve(w, x, y, pseudo_inverse)
    torch.testing.assert_close((w + least) @ x, w @ y)
    outside = torch.eye(d, dtype=torch.float64) - x @ torch.linalg.pinv(x)  # kills every column
    other = least + torch.randn_like(w) @ outside
    torch.testing.assert_close((w + other) @ x, w @ y)
    assert other.norm() >= least.norm()


def test_rank_and_condition() -> None:
    """Repeated columns lower the rank; what is left has the condition of the distinct ones."""
    _, x, _ = problem(1, 8, 3, 0)
    factor = factorise(torch.cat([x, x[:, :1]], dim=1))
    assert factor.rank == 3
    doubled = torch.cat([x[:, :1] * 2**0.5, x[:, 1:]], dim=1)
    assert factor.condition == pytest.approx(float(torch.linalg.cond(doubled)))


def test_singular_values_under_the_cutoff_are_dropped() -> None:
    x = torch.diag(torch.tensor([1.0, 1e-9, 1e-11], dtype=torch.float64))
    assert factorise(x).rank == 2
    assert factorise(x).condition == pytest.approx(1e9)


def test_conflicting_columns_get_their_mean() -> None:
    """One x with two wishes: the least-squares answer lies between them."""
    w = torch.eye(2, dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    new = w + solve(w, x, y, pseudo_inverse)
    torch.testing.assert_close(new @ x[:, 0], torch.tensor([0.0, 2.0], dtype=torch.float64))


def retained(d: int, seed: int, weight: float) -> tuple[Tensor, Tensor]:
    """C as the formula has it, and L as ours."""
    generator = torch.Generator().manual_seed(seed)
    prompts, language = (
        torch.randn(d, n * d, generator=generator, dtype=torch.float64) + n for n in (2, 3)
    )
    c = language @ language.T / (3 * d) + weight * prompts @ prompts.T / (2 * d)
    c += RIDGE * torch.diag(language.var(1, correction=0))
    of_language, of_prompts = (
        moment(with_constant(f).split(4, dim=1)) for f in (language, prompts)
    )
    return c, retain_norm(Retained(of_prompts, weight, of_language), d)


def in_null_space(w: Tensor, x: Tensor, y: Tensor, kept: Tensor, weight: float) -> Tensor:
    """The update of w."""
    retained = Retained(moment(with_constant(kept).split(3, dim=1)), weight)
    factor = null_space_factor(x, retained, torch.float64)
    return updated(w @ (y - x) @ factor.v, factor, ridge)


@settings(deadline=None)
@given(problems, st.integers(1, 20), st.sampled_from([0.5, 1.0, 10.0]))
def test_the_null_space_solve_is_the_published_formula(
    given_problem: Problem, n: int, weight: float
) -> None:
    w, x, y = given_problem
    kept = problem(1, len(x), n, 7)[1]
    ours = w + in_null_space(w, x, y, kept, weight)
    expected = null_space(w.numpy(), x.numpy(), y.numpy(), kept.numpy(), weight)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-7, atol=1e-7)


def test_the_null_space_solve_leaves_what_is_retained() -> None:
    """Two directions of nine are used: there nothing changes, elsewhere it is UCE's solve."""
    w, x, y = problem(5, 9, 4, 0)
    kept = torch.zeros(9, 6, dtype=torch.float64)
    kept[:2] = problem(1, 2, 6, 1)[1]
    delta = in_null_space(w, x, y, kept, 1e6)
    assert float((delta @ kept).abs().max()) < 1e-12
    assert float(delta.norm()) > 0.1
    free = x.clone()
    free[:2] = 0
    expected = w @ (y - x) @ free.T @ torch.linalg.inv(free @ free.T + torch.eye(9))
    torch.testing.assert_close(delta, expected)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 99), st.sampled_from([0.0, 1.0, 100.0]))
def test_retained_prompts_give_the_norm(d: int, seed: int, weight: float) -> None:
    """Zero residual in the retain-weighted norm: W_o(Y−X)(XᵀC⁻¹X)⁻¹XᵀC⁻¹."""
    w, x, y = problem(3, d, d // 2, seed)
    c, norm = retained(d, seed, weight)
    reader = x.T @ torch.linalg.inv(c)
    expected = w @ (y - x) @ torch.linalg.inv(reader @ x) @ reader
    ours = solve(w, x, y, pseudo_inverse, norm)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.integers(3, 9), st.integers(0, 99), st.sampled_from([0.01, 0.1, 0.3]))
def test_a_tolerance_is_used_to_the_full_at_the_least_cost(
    d: int, seed: int, tolerance: float
) -> None:
    """The residual is the tolerance of the gap, and the change is a stationary point of the norm.

    Least ‖ΔC^½‖² under ‖WX − W_oY‖² ≤ τ² needs ΔC = μ(W_oY − WX)Xᵀ with one μ > 0 (Lagrange).
    """
    w, x, y = problem(4, d, d - 1, seed)
    c, norm = retained(d, seed, 10.0)
    delta = solve(w, x, y, within(tolerance), norm)
    gap, left = w @ (y - x), w @ y - (w + delta) @ x
    assert float(left.norm() / gap.norm()) == pytest.approx(tolerance, rel=1e-6)
    cost, gain = delta @ c, left @ x.T
    ratio = cost / gain
    assert float(ratio.mean()) > 0
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-5, atol=0)


def test_what_means_the_anchor_already_is_left_alone() -> None:
    w, x, _ = problem(4, 6, 3, 0)
    assert not solve(w, x, x, within(0.1)).any()


def test_less_tolerance_costs_more_until_it_is_exact() -> None:
    w, x, y = problem(4, 6, 3, 1)
    costs = [float(solve(w, x, y, within(t)).norm()) for t in (0.5, 0.2, 0.05, 1e-6)]
    assert costs == sorted(costs)
    exact = solve(w, x, y, pseudo_inverse)
    torch.testing.assert_close(solve(w, x, y, within(1e-9)), exact)


def test_a_conflict_does_not_use_the_tolerance_up() -> None:
    """What no change can meet is not counted: the rest is still met to the tolerance."""
    w = torch.eye(3, dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    new = w + solve(w, x, y, within(0.01))
    best = torch.tensor([[0, 0, 0], [2, 2, 0], [0, 0, 1]], dtype=torch.float64)
    assert float((new @ x - best).norm() / (x - best).norm()) == pytest.approx(0.01, rel=1e-6)


def test_collinear_columns_cost_a_tolerant_solve_little() -> None:
    """The trap: nearly equal columns with different wishes make the exact solve huge."""
    w, x, y = problem(4, 6, 2, 2)
    x[:, 1] = x[:, 0] + 1e-4 * x[:, 1]
    assert float(solve(w, x, y, pseudo_inverse).norm()) > 1e3
    near = y[:, :1].expand(-1, 2) + 1e-3 * y
    assert float(solve(w, x, near, within(0.1)).norm()) < 10


@pytest.mark.parametrize("spectrum", [pseudo_inverse, within(0.1), ridge])
@pytest.mark.parametrize("decay", [0.0, -5.0])
def test_many_columns_are_compressed_without_loss(spectrum: Spectrum, decay: float) -> None:
    """With more columns than 2d the update is the column-side formula's within 1e-9 relative.

    Also for an X with singular values over five magnitudes (``decay``), whose square would lose
    them; all norms that are recorded are the same too.
    """
    d, n = 12, 200
    w, x, y = problem(20, d, n, 3)
    x = torch.diag(torch.logspace(0, decay, d, dtype=torch.float64)) @ x
    y = x + y
    _, norm = retained(d, 5, 10.0)
    parts = zip(x.split(7, dim=1), y.split(7, dim=1), strict=True)
    columns = Columns.of(parts, n)
    assert columns.x.shape == columns.y.shape == columns.rest.shape == (d, d)
    expected = solve(w, x, y, spectrum, norm)
    factor = factorise(columns.x, norm)
    ours = updated(w @ (columns.y - columns.x) @ factor.v, factor, spectrum)
    assert float((ours - expected).norm() / expected.norm()) < 1e-9
    assert factor.rank == factorise(x, norm).rank == d
    assert factor.condition == pytest.approx(factorise(x, norm).condition, rel=1e-6)
    new = w + expected
    left = torch.cat([new @ columns.x - w @ columns.y, w @ columns.rest], dim=1)
    assert float(left.norm()) == pytest.approx(float((new @ x - w @ y).norm()), rel=1e-9)


def test_few_columns_are_left_as_they_are() -> None:
    _, x, y = problem(2, 8, 8, 0)
    columns = Columns.of(zip(x.split(3, dim=1), y.split(3, dim=1), strict=True), 8)
    assert torch.equal(columns.x, x)
    assert torch.equal(columns.y, y)
    assert not columns.rest.numel()


def test_the_size_of_an_update_needs_no_update() -> None:
    w, x, y = problem(5, 9, 4, 1)
    _, norm = retained(9, 2, 10.0)
    factor = factorise(x, norm)
    residual = w @ (y - x) @ factor.v
    spectrum = within(0.2)(factor.s, residual.square().sum(0))
    delta = update(residual, factor, spectrum)
    size = update_norm(residual, factor, spectrum)
    assert size == pytest.approx(float(delta.norm()), rel=1e-12)
