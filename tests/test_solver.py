"""The closed forms against plain float64 formulas, and the theorems behind them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasepro_convert.erase.solver import factorise, pseudo_inverse, ridge, update
from tests.oracle import eq2, eq5

Problem = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def problem(m: int, d: int, n: int, seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((m, d), (d, n), (d, n))
    w, x, y = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return w, x, y


problems = st.builds(
    problem, st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99)
)


@settings(deadline=None)
@given(problems)
def test_the_updates_are_the_papers(given_problem: Problem) -> None:
    """Eq. 5 and Eq. 2, whether X is wide, tall or square."""
    w, x, y = given_problem
    change = w @ (y - x)
    arrays = w.numpy(), x.numpy(), y.numpy()
    for spectrum, formula in ((pseudo_inverse, eq5), (ridge, eq2)):
        ours = w + update(change, factorise(x), spectrum)
        np.testing.assert_allclose(ours.numpy(), formula(*arrays), rtol=1e-7, atol=1e-7)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 99))
def test_zero_residual_at_the_least_cost(d: int, seed: int) -> None:
    """Eq. 4: WX = W_oY holds, and any other solution is further from W_o."""
    w, x, y = problem(3, d, d // 2, seed)
    least = update(w @ (y - x), factorise(x), pseudo_inverse)
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
    new = w + update(w @ (y - x), factorise(x), pseudo_inverse)
    torch.testing.assert_close(new @ x[:, 0], torch.tensor([0.0, 2.0], dtype=torch.float64))
