"""Rates, means and tests against scipy, and how often intervals hold."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from erasepro_convert.evaluate.metrics import bootstrap
from erasepro_convert.evaluate.metrics.intervals import LEVEL, student_t, wilson_interval
from erasepro_convert.evaluate.metrics.rates import (
    crossed_rate,
    fid_warnings,
    holm,
    kid_warnings,
    mcnemar,
    mean_score,
    prompt_count_warnings,
    rate,
)

counted = st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
hits_by_prompt = st.dictionaries(st.text(max_size=3), counted, min_size=1, max_size=9)
scores_by_prompt = st.dictionaries(
    st.text(max_size=3), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), min_size=1
)


def intraclass(hits: Mapping[str, tuple[int, int]]) -> float:
    """The ANOVA estimate from single images, by the mean squares of a one-way table."""
    groups = [np.repeat([1.0, 0.0], [h, n - h]) for h, n in hits.values()]
    images, k = np.concatenate(groups), len(groups)
    between = sum(len(g) * (g.mean() - images.mean()) ** 2 for g in groups) / (k - 1)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (len(images) - k)
    typical = (len(images) - sum(len(g) ** 2 for g in groups) / len(images)) / (k - 1)
    return float((between - within) / (between + (typical - 1) * within))


def test_a_rate_by_hand() -> None:
    hits = {"a": (1, 10), "b": (5, 10), "c": (0, 10), "d": (9, 30)}
    found = rate(hits)
    icc = intraclass(hits)
    assert (found.rate, found.hits, found.n, found.prompts) == (0.25, 15, 60, 4)
    assert found.icc == pytest.approx(icc)
    assert found.n_eff == pytest.approx(60 / (1 + (1200 / 60 - 1) * icc))
    assert (found.worst, found.worst_rate) == ("b", 0.5)
    assert (rate(hits, "low").worst, rate(hits, "low").worst_rate) == ("c", 0.0)
    assert found.interval.level == LEVEL == 0.95
    few = (stats.t.ppf(0.975, 59) / stats.t.ppf(0.975, 3)) ** 2
    expected = wilson_interval(0.25, found.n_eff * few)
    assert found.interval.low == pytest.approx(expected.low, rel=1e-2)
    assert found.interval.high == pytest.approx(expected.high, rel=1e-2)


@given(counted)
def test_one_prompt_has_wilsons_interval(one: tuple[int, int]) -> None:
    found = rate({"a": one})
    theirs = stats.binomtest(*one).proportion_ci(method="wilson")
    assert found.icc is None
    assert found.n_eff == one[1]
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(theirs), abs=1e-12)


def test_one_image_a_prompt_has_wilsons_interval() -> None:
    found = rate({str(i): (i % 4 == 0, 1) for i in range(40)})
    theirs = stats.binomtest(10, 40).proportion_ci(method="wilson")
    assert found.icc is None
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(theirs))


@pytest.mark.slow
@given(hits_by_prompt)
def test_what_holds_of_any_rate(hits: Mapping[str, tuple[int, int]]) -> None:
    found = rate(hits)
    assert 0 <= found.interval.low <= found.rate <= found.interval.high <= 1
    assert 1 - 1e-9 <= found.n_eff <= found.n
    assert found.icc is None or 0 <= found.icc <= 1 + 1e-9
    assert rate({name: hits[name] for name in sorted(hits)}).interval.low == pytest.approx(
        found.interval.low
    )


@given(st.integers(1, 20), st.integers(2, 9))
def test_images_that_are_all_the_same_count_once(seeds: int, prompts: int) -> None:
    """n_eff of prompts that are all or nothing is their number."""
    found = rate({str(i): (seeds * (i % 2), seeds) for i in range(prompts)})
    assert found.n_eff == pytest.approx(prompts)


@given(st.floats(0, 1), st.floats(1, 1e3), st.floats(1.1, 9))
def test_more_images_say_more(p: float, n: float, more: float) -> None:
    rough, fine = wilson_interval(p, n), wilson_interval(p, n * more)
    assert fine.high - fine.low < rough.high - rough.low


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 49, 5000])
def test_students_t(freedom: int) -> None:
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.008)


def test_intervals_of_rates_hold_as_often_as_they_say() -> None:
    """10 prompts × 20 seeds, rate 0.1, correlation 0.1: a plain Wilson interval does not."""
    generator = np.random.default_rng(0)
    p, icc, runs = 0.1, 0.1, 2000
    rates = generator.beta(p * (1 / icc - 1), (1 - p) * (1 / icc - 1), size=(runs, 10))
    plain, by_design, ours = 0, 0, 0
    for hits in generator.binomial(20, rates):
        found = rate({str(i): (int(h), 20) for i, h in enumerate(hits)})
        plain += p in wilson_interval(found.rate, found.n)
        by_design += p in wilson_interval(found.rate, found.n_eff)
        ours += p in found.interval
    assert plain / runs == pytest.approx(0.77, abs=0.03)
    assert by_design / runs == pytest.approx(0.91, abs=0.02)
    assert ours / runs == pytest.approx(0.945, abs=0.02)


def crossed_sample(
    rng: np.random.Generator, seeds: int, prompts: int, images: int
) -> list[dict[str, tuple[int, int]]]:
    """Hits at a mean rate of about 0.3, with effects of training seeds and of prompts."""
    logits = rng.normal(0, 0.8, (seeds, 1)) + rng.normal(0, 0.8, (1, prompts)) - 1
    hits = rng.binomial(images, 1 / (1 + np.exp(-logits)))
    return [{str(p): (int(h), images) for p, h in enumerate(row)} for row in hits]


def test_a_single_training_seed_has_the_rate_of_its_prompts() -> None:
    hits = {"a": (3, 4), "b": (1, 4)}
    assert crossed_rate([hits]) == rate(hits)


@pytest.mark.slow
def test_intervals_over_training_seeds_and_prompts_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.8, (2, 400_000)).sum(0)
    truth = float((1 / (1 + np.exp(1 - effects))).mean())
    samples = [crossed_sample(rng, 5, 10, 2) for _ in range(600)]
    held = np.mean([truth in crossed_rate(sample).interval for sample in samples])
    pooled = [
        {p: (sum(s[p][0] for s in sample), 2 * len(sample)) for p in sample[0]}
        for sample in samples
    ]
    by_prompt_alone = np.mean([truth in rate(sample).interval for sample in pooled])
    assert 0.93 <= held <= 0.995
    assert by_prompt_alone < 0.9


def test_training_seeds_that_differ_make_intervals_wider() -> None:
    alike = [{"a": (1, 2), "b": (1, 2), "c": (1, 2)}] * 4
    apart = [dict.fromkeys("abc", (n, 2)) for n in (0, 2, 0, 2)]
    wide, narrow = (crossed_rate(hits).interval for hits in (apart, alike))
    assert wide.low < narrow.low < narrow.high < wide.high
    with pytest.raises(ValueError, match="different prompts"):
        crossed_rate([{"a": (1, 2)}, {"b": (1, 2)}])


@pytest.mark.slow
def test_intervals_of_means_hold_as_often_as_they_say() -> None:
    """10 prompts × 20 seeds, correlation 0.3: of images drawn one by one they would not."""
    generator = np.random.default_rng(0)
    plain, ours, runs = 0, 0, 150
    for prompts in generator.normal(size=(runs, 10, 1)):
        scores = 0.3**0.5 * prompts + 0.7**0.5 * generator.normal(size=(10, 20))
        ours += 0 in mean_score({str(i): row for i, row in enumerate(scores)}).interval
        plain += abs(scores.mean()) < 1.96 * scores.std() / 200**0.5
    assert plain / runs < 0.65
    assert 0.87 < ours / runs <= 0.97


def test_a_mean_is_deterministic_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"a": [1.0, 2.0], "b": [3.0], "c": [0.0, 0.5, 4.0]}
    found = mean_score(scores)
    assert (found.mean, found.n, found.prompts) == (1.75, 6, 3)
    assert found.interval.low < 1.75 < found.interval.high
    assert found == mean_score(scores)
    assert found != mean_score(scores, seed=1)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 100)  # in many parts
    parts = mean_score(scores)
    assert parts.interval.low == pytest.approx(found.interval.low, abs=0.1)
    assert parts.interval.high == pytest.approx(found.interval.high, abs=0.1)


@pytest.mark.parametrize("seeds", [1, 8])
def test_replicates_spread_as_theory_says(seeds: int) -> None:
    """Var* = (variance of prompt means + mean variance within / seeds) / prompts."""
    rows = np.random.default_rng(0).normal(size=(6, seeds)) + np.arange(6)[:, None]
    found = bootstrap.bootstrap_means([*rows], 20_000, 0)
    expected = (rows.mean(1).var() + rows.var(1).mean() / seeds) / 6
    assert found.mean() == pytest.approx(rows.mean(), abs=0.02)
    assert found.var() == pytest.approx(expected, rel=0.05)


@settings(deadline=None, max_examples=20)
@given(scores_by_prompt, st.floats(-100, 100))
def test_means_shift_with_scores(scores: Mapping[str, list[float]], shift: float) -> None:
    found = mean_score(scores)
    moved = mean_score({name: np.array(values) + shift for name, values in scores.items()})
    for was, now in (
        (found.mean, moved.mean),
        (found.interval.low, moved.interval.low),
        (found.interval.high, moved.interval.high),
    ):
        assert now == pytest.approx(was + shift, abs=1e-8)


def test_what_has_no_mean() -> None:
    for wrong, message in (
        ({}, "two images"),
        ({"a": [1.0]}, "two images"),
        ({"a": [1.0, 2.0], "b": []}, "no images: 'b'"),
        ({"a": [1.0, np.inf]}, "not finite: 'a'"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_score(wrong)


@pytest.mark.parametrize("wrong", [{}, {"a": (0, 0)}, {"a": (3, 2)}, {"a": (-1, 2)}])
def test_what_has_no_rate(wrong: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"no prompts|hits in"):
        rate(wrong)


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_mcnemar_is_the_binomial_test_of_flips(flips: list[tuple[bool, bool]]) -> None:
    found = mcnemar([was for was, _ in flips], [now for _, now in flips])
    assert found.n == len(flips)
    assert found.lost == flips.count((True, False))
    assert found.gained == flips.count((False, True))
    some = found.lost + found.gained
    assert found.p == pytest.approx(stats.binomtest(found.lost, some).pvalue if some else 1.0)


def test_mcnemar_of_many() -> None:
    before = [True] * 2600 + [False] * 2400
    found = mcnemar(before, [not was for was in before])
    assert found.p == pytest.approx(stats.binomtest(2600, 5000).pvalue)
    with pytest.raises(ValueError, match="1 and 2 images"):
        mcnemar([True], [True, False])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    with pytest.raises(ValueError, match=r"1\.5 is no probability"):
        holm([0.1, 1.5])
    with pytest.raises(ValueError, match="nan"):
        holm([float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1))
def test_what_holds_of_any_adjustment(p_values: list[float]) -> None:
    """Between the plain and Bonferroni's, in the same order."""
    adjusted = holm(p_values)
    for p, more in zip(p_values, adjusted, strict=True):
        assert p <= more <= min(1, p * len(p_values))
    assert sorted(adjusted) == [more for _, more in sorted(zip(p_values, adjusted, strict=True))]


def test_warnings_of_small_samples() -> None:
    assert prompt_count_warnings(10) == kid_warnings(50) == fid_warnings(2048) == []
    assert prompt_count_warnings(1)[0].startswith("One prompt:")
    assert prompt_count_warnings(4)[0].startswith("4 prompts:")
    assert kid_warnings(49)[0].startswith("49 images: KID is mostly noise")
    assert fid_warnings(2047)[0].startswith("2047 images: FID is too high")
