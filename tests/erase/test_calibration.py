"""The calibrated regularisation against plain formulas, and what it does not depend on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from erasepro_convert.erase.calibration import (
    LARGEST,
    SMALLEST,
    Calibrated,
    Calibration,
    CalibrationFeatures,
)
from erasepro_convert.erase.closed_form import (
    Factor,
    Retained,
    factorise,
    moment,
    retain_norm,
    unchanged,
    update,
)
from erasepro_convert.erase.read_features import Augment
from erasepro_convert.language.moments import with_constant

M, D = 7, 12


class Case:
    """Random features of two feeds, and one matrix that reads them."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.w = self.normal(M, D)
        self.x, self.y = self.normal(D, 9), self.normal(D, 9)
        self.language = self.normal(D, 40) + self.normal(D, 1)
        self.retained = self.normal(D, 20)
        self.feeds = [
            CalibrationFeatures(*(self.normal(D, n) for n in (5, 5, 5, 8, 8))) for _ in range(2)
        ]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def seen_through(self, gains: Tensor, offset: Tensor) -> "Case":
        """The same outputs from other features: each is multiplied by gains, then moved."""
        other = Case.__new__(Case)

        def moved(features: Tensor) -> Tensor:
            return gains[:, None] * features + offset[:, None]

        other.w = self.w / gains
        other.x, other.y = moved(self.x), moved(self.y)
        other.language, other.retained = moved(self.language), moved(self.retained)
        names = CalibrationFeatures.__dataclass_fields__
        other.feeds = [
            CalibrationFeatures(*(moved(getattr(feed, name)) for name in names))
            for feed in self.feeds
        ]
        return other

    def factor(self, augment: Augment = unchanged) -> Factor:
        language = moment([with_constant(self.language)])
        retained = Retained(moment([with_constant(self.retained)]), 1.0, language)
        x = augment(self.x)
        return factorise(x, retain_norm(retained, len(x)))

    def solve(
        self, strength: float = 1.0, augment: Augment = unchanged
    ) -> tuple[Calibrated, Tensor]:
        """What was chosen, and the update that it leads to."""
        factor = self.factor(augment)
        residual = self.w @ (self.y - self.x) @ factor.v
        chosen = Calibration(factor, self.feeds, augment, strength).choose(self.w, residual)
        return chosen, update(residual, factor, chosen.spectrum)

    def update_with(self, share: float) -> Tensor:
        """The update with an ε that is a share of the largest squared singular value."""
        factor = self.factor()
        spectrum = factor.s / (factor.s.square() + share * factor.s[0].square())
        return update(self.w @ (self.y - self.x) @ factor.v, factor, spectrum)

    def measures(self, delta: Tensor) -> tuple[float, float]:
        """Leak and drift of the matrix's outputs, as the definition has them."""
        new, leak, gap, drift, spread = self.w + delta, 0.0, 0.0, 0.0, 0.0
        for f in self.feeds:
            leak += float((new @ f.target - self.w @ f.anchor).square().sum())
            gap += float((self.w @ (f.target_original - f.anchor)).square().sum())
            was = self.w @ f.other_original
            drift += float((new @ f.other - was).square().sum())
            spread += float((was - was.mean(1, keepdim=True)).square().sum())
        return (leak / gap) ** 0.5, (drift / spread) ** 0.5


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.sampled_from([0.1, 1.0, 10.0]))
def test_the_measures_are_those_of_the_update_and_none_is_better(
    seed: int, strength: float
) -> None:
    case = Case(seed)
    chosen, delta = case.solve(strength)
    leak, drift = case.measures(delta)
    assert (chosen.leak, chosen.drift) == pytest.approx((leak, drift), rel=1e-6, abs=1e-9)
    for scale in range(SMALLEST, LARGEST + 1, 2):
        other = case.measures(case.update_with(10.0**scale))
        objective = [strength * a**4 + b**2 for a, b in ((leak, drift), other)]
        assert objective[0] <= objective[1] * (1 + 1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999))
def test_more_strength_leaks_less_and_drifts_more(seed: int) -> None:
    found = [Case(seed).solve(strength)[0] for strength in (0.01, 1.0, 100.0)]
    assert [c.leak for c in found] == sorted((c.leak for c in found), reverse=True)
    assert [c.drift for c in found] == sorted(c.drift for c in found)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999))
def test_gains_of_a_layer_norm_change_nothing(seed: int) -> None:
    """The outputs for every feature are the same before, so they are the same after."""
    case = Case(seed)
    gains = torch.exp(case.normal(D))
    other = case.seen_through(gains, torch.zeros(D, dtype=torch.float64))
    (chosen, delta), (others, seen) = case.solve(), other.solve()
    assert (others.leak, others.drift) == pytest.approx((chosen.leak, chosen.drift), rel=1e-6)
    torch.testing.assert_close(seen * gains, delta, rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999))
def test_with_a_constant_of_its_own_no_offset_changes_anything(seed: int) -> None:
    """Keys: Δ'(g ⊙ f + c) + δ' = Δf + δ for every f."""
    case = Case(seed)
    gains, offset = torch.exp(case.normal(D)), 3 * case.normal(D)
    other = case.seen_through(gains, offset)
    (chosen, delta), (others, seen) = (c.solve(augment=with_constant) for c in (case, other))
    assert (others.leak, others.drift) == pytest.approx((chosen.leak, chosen.drift), rel=1e-6)
    back = torch.cat([seen[:, :-1] * gains, seen[:, -1:] + seen[:, :-1] @ offset[:, None]], dim=1)
    torch.testing.assert_close(back, delta, rtol=1e-5, atol=1e-7)


def test_a_target_that_is_its_anchor_already_is_left_alone() -> None:
    case = Case(0)
    same = [
        CalibrationFeatures(f.anchor, f.anchor, f.anchor, f.other_original, f.other_original)
        for f in case.feeds
    ]
    case.feeds, case.y = same, case.x
    chosen, delta = case.solve()
    assert (chosen.leak, chosen.drift) == (0, 0)
    assert not delta.any()
