"""The distance from a target's keys and values, against a plain writing of its definition."""

import numpy as np
import pytest
import torch
from torch import Tensor

from erasepro_convert.probing.key_value_distance import Goal, KeyValueDistance
from erasepro_convert.sd1 import cross_attentions, key_value_matrices

WIDTH, POSITIONS = 12, 5
KEYS = {attention.to_k for attention in cross_attentions()}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two models; the second differs from the first by matrices of low rank."""
    names = key_value_matrices()
    before = {name: drawn(8 + 2 * (i % 3), WIDTH, seed=i) for i, name in enumerate(names)}
    after = {
        name: w + drawn(len(w), 1, seed=100 + i) @ drawn(1, WIDTH, seed=200 + i)
        for i, (name, w) in enumerate(before.items())
    }
    return before, after


@pytest.fixture(scope="module")
def goal() -> Goal:
    return Goal(drawn(POSITIONS, WIDTH, seed=7), drawn(POSITIONS, WIDTH, seed=8), drawn(WIDTH) * 3)


def by_definition(
    before: dict[str, Tensor], after: dict[str, Tensor], goal: Goal, common: Tensor, f: Tensor
) -> float:
    shares = []
    for name in key_value_matrices():
        w_o, w = (side[name].double() for side in (before, after))
        moved = w @ common.double() - w_o @ goal.common.double() if name in KEYS else 0
        difference = f.double() @ w.T - moved - goal.target.double() @ w_o.T
        unit = ((goal.anchor - goal.target).double() @ w_o.T).square().sum(1).mean()
        shares.append(difference.square().sum(1).mean() / unit)
    return float(torch.stack(shares).mean().sqrt())


def test_the_form_is_the_definition(
    weights: tuple[dict[str, Tensor], dict[str, Tensor]], goal: Goal
) -> None:
    before, after = weights
    common, f = drawn(WIDTH, seed=3), drawn(POSITIONS, WIDTH, seed=4)
    form = KeyValueDistance.of(before.__getitem__, after.__getitem__, goal, common)
    expected = by_definition(before, after, goal, common, f)
    assert form.distance(f) == pytest.approx(expected, rel=1e-5)
    parts = [form.at(slice(i, i + 1)).squares(f[i : i + 1]) for i in range(POSITIONS)]
    assert torch.cat(parts).mean().sqrt() == pytest.approx(expected, rel=1e-5)
    assert form.squares(torch.stack([f, f])).shape == (2, POSITIONS)


def test_the_target_is_at_0_and_the_anchor_at_1_in_the_original(
    weights: tuple[dict[str, Tensor], dict[str, Tensor]], goal: Goal
) -> None:
    read = weights[0].__getitem__
    form = KeyValueDistance.of(read, read, goal, goal.common)
    assert form.distance(goal.target) == pytest.approx(0, abs=1e-3)
    assert form.distance(goal.anchor) == pytest.approx(1, rel=1e-5)
    assert form.reach == pytest.approx(0, abs=1e-3)


def test_no_input_comes_nearer_than_reach(
    weights: tuple[dict[str, Tensor], dict[str, Tensor]], goal: Goal
) -> None:
    before, after = weights
    common = drawn(WIDTH, seed=3)
    form = KeyValueDistance.of(before.__getitem__, after.__getitem__, goal, common)
    rows, wanted = [], []
    for name in key_value_matrices():
        w_o, w = (side[name].double().numpy() for side in (before, after))
        unit = np.square((goal.anchor - goal.target).double().numpy() @ w_o.T).sum(1).mean()
        moved = w @ common.double().numpy() - w_o @ goal.common.double().numpy()
        scale = (unit * len(key_value_matrices()) * POSITIONS) ** -0.5
        rows.append(w * scale)
        aim = goal.target.double().numpy() @ w_o.T + (moved if name in KEYS else 0)
        wanted.append(aim.T * scale)
    _, left, _, _ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)
    assert form.reach == pytest.approx(left.sum() ** 0.5, rel=1e-4)
    assert form.reach < min(form.distance(drawn(POSITIONS, WIDTH, seed=s)) for s in range(20))


def test_a_matrix_that_tells_nothing_apart_does_not_count(
    weights: tuple[dict[str, Tensor], dict[str, Tensor]], goal: Goal
) -> None:
    before, after = weights
    blind = {**before, key_value_matrices()[0]: torch.zeros(8, WIDTH)}
    common, f = goal.common, drawn(POSITIONS, WIDTH, seed=4)
    form = KeyValueDistance.of(blind.__getitem__, after.__getitem__, goal, common)
    assert np.isfinite(form.distance(f))
