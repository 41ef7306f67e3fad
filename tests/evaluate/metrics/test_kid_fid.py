"""KID and FID against torchmetrics, and what must hold of any distance."""

import warnings
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from erasepro_convert.evaluate.metrics import kid_fid as distances
from erasepro_convert.evaluate.metrics.jackknife import Statistic, distance_interval
from erasepro_convert.evaluate.metrics.kid_fid import Array, fid, kernel, kid, kid_paired

Distance = Callable[[Array, Array], float]


class Features(torch.nn.Module):
    """Takes features for images."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def sample(n: int, m: int, d: int, seed: int = 0) -> tuple[Array, Array]:
    """Two sets as Inception's are: not negative, and not independent."""
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(d, d)) / d**0.5
    x = np.abs(generator.normal(size=(n, d)) @ mix)
    return x, np.abs(generator.normal(size=(m, d)) @ mix + 0.3)


samples = st.builds(
    sample, st.integers(2, 12), st.integers(2, 12), st.integers(1, 9), st.integers(0, 99)
)
pairs = st.integers(2, 12).flatmap(
    lambda n: st.builds(sample, st.just(n), st.just(n), st.integers(1, 9), st.integers(0, 99))
)


def prompts_of(count: int, seeds: int) -> list[str]:
    return [f"prompt {i}" for i in range(count) for _ in range(seeds)]


@pytest.mark.parametrize(("n", "d"), [(200, 64), (60, 256), (2, 5)])
def test_kid_is_that_of_torchmetrics(n: int, d: int) -> None:
    x, y = sample(n, n, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory
        theirs = KernelInceptionDistance(feature=Features(d), subsets=1, subset_size=n)
    theirs.update(torch.from_numpy(x), real=True)
    theirs.update(torch.from_numpy(y), real=False)
    assert kid(x, y) == pytest.approx(float(theirs.compute()[0]), abs=1e-5, rel=0)
    assert kid(x, y) == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 64), (60, 90, 256), (9, 2, 3)])
def test_fid_is_that_of_torchmetrics(n: int, m: int, d: int) -> None:
    """With more features than images too, where the covariance is singular."""
    x, y = sample(n, m, d)
    theirs = FrechetInceptionDistance(feature=Features(d))
    theirs.set_dtype(torch.float64)
    theirs.update(torch.from_numpy(x), real=True)
    theirs.update(torch.from_numpy(y), real=False)
    assert fid(x, y) == pytest.approx(float(theirs.compute()), abs=1e-5, rel=0)


@pytest.mark.slow
def test_sets_above_1000_are_read_in_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones each time, whose mean is that of the whole, with an error of 0.001 here."""
    x, y = sample(90, 120, 8)
    whole, of_pairs, uneven = kid(x, y[:90]), kid_paired(x, y[:90]), kid(x, y)
    monkeypatch.setattr(distances, "SUBSET_SIZE", 60)
    parts = kid(x, y[:90])
    assert parts != whole
    assert parts == kid(x, y[:90])
    assert kid_paired(x, x.copy()) == 0
    monkeypatch.setattr(distances, "SUBSETS", 4000)
    assert kid(x, y[:90]) == pytest.approx(whole, abs=0.004)
    assert kid_paired(x, y[:90]) == pytest.approx(of_pairs, abs=0.004)
    monkeypatch.setattr(distances, "SUBSET_SIZE", 100)
    assert kid(x, y) == pytest.approx(uneven, abs=0.004)  # x is read as a whole


@settings(deadline=None)
@given(samples)
def test_identical_sets(given_sample: tuple[Array, Array]) -> None:
    """KIDp is exactly 0, FID is but for rounding, and KID is biased as the docstring says."""
    x, _ = given_sample
    assert kid_paired(x, x.copy()) == 0
    assert fid(x, x.copy()) == pytest.approx(0, abs=1e-9)
    k, n = kernel(x, x), len(x)
    others = (k.sum() - k.trace()) / (n * (n - 1))
    bias = -2 / n * (k.trace() / n - others)
    assert kid(x, x) == pytest.approx(bias, abs=1e-9)


@settings(deadline=None)
@given(samples, st.randoms(use_true_random=False))
def test_order_does_not_matter(given_sample: tuple[Array, Array], random: Random) -> None:
    x, y = given_sample
    rows, others = (random.sample(range(len(z)), len(z)) for z in (x, y))
    for distance in (kid, fid):
        assert distance(x, y) == pytest.approx(distance(x[rows], y[others]), abs=1e-8)
        assert distance(x, y) == pytest.approx(distance(y, x), abs=1e-8)


@settings(deadline=None)
@given(pairs, st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(given_sample: tuple[Array, Array], random: Random) -> None:
    x, y = given_sample
    rows = random.sample(range(len(x)), len(x))
    assert kid_paired(x, y) == pytest.approx(kid_paired(x[rows], y[rows]), abs=1e-8)
    assert kid_paired(x, y) == pytest.approx(kid_paired(y, x), abs=1e-8)


@settings(deadline=None)
@given(pairs)
def test_what_pairing_leaves_out(given_sample: tuple[Array, Array]) -> None:
    """KIDp is KID with the mean of the cross term taken off the diagonal."""
    x, y = given_sample
    k, n = kernel(x, y), len(x)
    others = (k.sum() - k.trace()) / (n * (n - 1))
    assert kid_paired(x, y) == pytest.approx(kid(x, y) + 2 * (k.mean() - others), abs=1e-8)


@settings(deadline=None)
@given(samples, st.floats(0, 10), st.floats(-10, 10))
def test_fid_of_shifts(given_sample: tuple[Array, Array], shift: float, both: float) -> None:
    """A shift of one set costs its square; one of both costs nothing."""
    x, y = given_sample
    assert fid(x, x + shift) == pytest.approx(x.shape[1] * shift**2, abs=1e-7)
    assert fid(x + both, y + both) == pytest.approx(fid(x, y), abs=1e-7)


@settings(deadline=None)
@given(samples, st.floats(0, 5), st.floats(0.1, 5))
def test_further_away_is_more(given_sample: tuple[Array, Array], near: float, more: float) -> None:
    """With features that are not negative, as Inception's; KID's bias can outdo it."""
    x, _ = given_sample
    for distance in (kid_paired, fid):
        assert distance(x, x + near) < distance(x, x + near + more)


@pytest.mark.parametrize("distance", [kid, kid_paired, fid])
def test_what_is_no_set_of_features(distance: Distance) -> None:
    x, y = sample(4, 4, 3)
    for wrong in (x[:1], x[0], x[:, :0], x[:, :2], x * np.nan, x - np.inf):
        with pytest.raises(ValueError, match="features"):
            distance(wrong, y)
        with pytest.raises(ValueError, match="features"):
            distance(y, wrong)


def test_pairs_are_as_many() -> None:
    with pytest.raises(ValueError, match="4 and 5 rows"):
        kid_paired(*sample(4, 5, 3))


@pytest.mark.parametrize("statistic", ["kid", "kid_paired", "fid"])
@pytest.mark.parametrize("separate", [False, True])
def test_the_interval_is_the_jackknifes(statistic: Statistic, separate: bool) -> None:
    """Against calls of the distance without each prompt."""
    if separate and statistic == "kid_paired":
        pytest.skip("pairs have one prompt")
    distance: Distance = {"kid": kid, "kid_paired": kid_paired, "fid": fid}[statistic]
    x, y = sample(20, 20, 6)
    names = np.array(prompts_of(5, 4))[np.random.default_rng(0).permutation(20)]
    found = distance_interval(x, y, [*names], statistic, [*names] if separate else None)
    kept = [names != name for name in sorted({*names})]
    if separate:
        sides = [[distance(x[rows], y) for rows in kept], [distance(x, y[rows]) for rows in kept]]
    else:
        sides = [[distance(x[rows], y[rows]) for rows in kept]]
    sd = sum(4 * float(np.var(side)) for side in sides) ** 0.5
    assert found.value == distance(x, y)
    assert found.sd == pytest.approx(sd)
    assert found.interval.high - found.value == pytest.approx(2.776 * sd, rel=1e-3)
    assert found.value - found.interval.low == pytest.approx(2.776 * sd, rel=1e-3)
    assert (found.images, found.prompts) == ((20, 20), (5, 5))


def test_identical_sets_have_an_interval_of_nothing() -> None:
    x, _ = sample(20, 20, 6)
    found = distance_interval(x, x.copy(), prompts_of(5, 4), "kid_paired")
    assert (found.value, found.sd, found.interval.low, found.interval.high) == (0, 0, 0, 0)


def test_many_prompts_are_left_out_several_at_a_time() -> None:
    """And the kernel is made in parts; with other prompts on either side."""
    x, y = sample(130, 260, 6)
    coarse = distance_interval(x, y, prompts_of(130, 1), "kid", prompts_of(130, 2))
    assert coarse.prompts == (130, 130)
    assert coarse.sd == pytest.approx(jackknife(x, y, 1, 2), rel=0.4)


def jackknife(x: Array, y: Array, of_x: int, of_y: int) -> float:
    """The standard deviation of KID where every prompt is left out on its own."""
    sides = (
        [kid(np.delete(x, range(i, i + of_x), 0), y) for i in range(0, len(x), of_x)],
        [kid(x, np.delete(y, range(i, i + of_y), 0)) for i in range(0, len(y), of_y)],
    )
    return float(np.sqrt(sum((len(side) - 1) * np.var(side) for side in sides)))


@pytest.mark.slow
@pytest.mark.parametrize(("statistic", "runs"), [("kid", 200), ("kid_paired", 200), ("fid", 100)])
def test_intervals_hold_as_often_as_they_say(statistic: Statistic, runs: int) -> None:
    """With images of one prompt alike, and a change that is not the same for all prompts."""
    distance: Distance = {"kid": kid, "kid_paired": kid_paired, "fid": fid}[statistic]
    generator = np.random.default_rng(0)

    def draw() -> tuple[Array, Array]:
        prompts, changes = generator.normal(size=(2, 10, 1, 32))
        x = 0.3 + 0.5 * prompts + generator.normal(size=(10, 8, 32))
        y = x + 0.4 + 0.4 * changes + 0.3 * generator.normal(size=(10, 8, 32))
        return x.reshape(80, 32), y.reshape(80, 32)

    truth = float(np.mean([distance(*draw()) for _ in range(4 * runs)]))
    names = prompts_of(10, 8)
    held = [truth in distance_interval(*draw(), names, statistic).interval for _ in range(runs)]
    assert np.mean(held) >= 0.9


def test_what_has_no_interval() -> None:
    x, y = sample(6, 6, 3)
    with pytest.raises(ValueError, match="5 images of 6"):
        distance_interval(x, y, prompts_of(5, 1), "kid")
    with pytest.raises(ValueError, match="one prompt"):
        distance_interval(x, y, prompts_of(1, 6), "kid")
    with pytest.raises(ValueError, match="no two images"):
        distance_interval(x, y, ["a"] * 5 + ["b"], "fid")
    with pytest.raises(ValueError, match="pairs"):
        distance_interval(x, y, prompts_of(2, 3), "kid_paired", prompts_of(3, 2))
