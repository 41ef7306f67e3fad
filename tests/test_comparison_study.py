"""The study behind docs/comparison.md: its prompts, its statistics and its tables."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.comparison import COSTS_COLUMNS, HITS_COLUMNS, IDEAL, ORIGINAL
from benchmarks.comparison_page import (
    Task,
    filled,
    heading,
    in_order,
    rate_lines,
    table,
    tasks_of,
    verdict,
    worst_table,
)
from benchmarks.comparison_statistics import difference, share, sign_flip_p
from benchmarks.comparison_tasks import (
    COLUMNS,
    GONE,
    IMPLIED,
    KEPT,
    PROMPTS,
    SEEDS,
    TASKS,
    WITH_TARGETS,
    class_of,
    columns_of,
    recipe_of,
    with_anchors,
)
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.demo import contains_words, load_classifier

OWN_PROMPTS = {*COLUMNS} - {"named, stock", "anchor"}


@pytest.mark.parametrize("task", TASKS)
def test_only_some_columns_name_a_target(task: str) -> None:
    free = recipe_of(task).without_targets
    words = [target for target, _ in TASKS[task]]
    for column, asked in columns_of(task).items():
        prompts = tuple(one.prompt for one in asked)
        if column in WITH_TARGETS:
            assert all(any(contains_words(p, word) for word in words) for p in prompts)
        else:
            assert tuple(free(prompts)) == prompts, column


@pytest.mark.parametrize("task", TASKS)
def test_a_control_says_anchors_in_the_place_of_targets(task: str) -> None:
    """What is drawn has an anchor's words and none of the target's; the prompt still names it."""
    for column in WITH_TARGETS:
        asked = columns_of(task)[column]
        for one, control in zip(asked, with_anchors(asked, task), strict=True):
            assert (control.prompt, control.seeds) == (one.prompt, one.seeds)
            (pair,) = [p for p in TASKS[task] if contains_words(one.prompt, p[0])][-1:]
            assert not contains_words(control.drawn, pair[0])
            assert contains_words(control.drawn, pair[1])


@pytest.mark.parametrize("task", TASKS)
def test_columns_have_enough_prompts_and_seeds_of_their_own(task: str) -> None:
    columns = columns_of(task)
    assert columns.keys() == OWN_PROMPTS
    for column, asked in columns.items():
        seeds = Counter(seed for one in asked for seed in one.seeds)
        assert all(len(one.seeds) >= SEEDS for one in asked)
        assert not seeds or set(seeds.values()) == {1}
        assert len({one.prompt for one in asked}) == len(asked)
        is_short = (task, column) in (("twenty", "unnamed"), ("attribute", "neighbours"))
        is_short |= column == "two subjects"  # styles and fire have none
        assert len(asked) >= (0 if is_short else PROMPTS), column
    targets = {target for target, _ in TASKS[task]}
    assert {one.concept for one in columns["named"]} == targets
    implied = [{one.concept for one in columns[level]} for level in IMPLIED]
    assert implied[0] == implied[1] == implied[2] <= {class_of(target)[1] for target in targets}


@pytest.mark.parametrize("task", TASKS)
def test_what_is_looked_for_is_what_must_be_gone_or_stay(task: str) -> None:
    heads = load_classifier().heads
    erased = {class_of(target) for target, _ in TASKS[task]}
    anchors = {anchor for _, anchor in TASKS[task]}
    for column, asked in columns_of(task).items():
        for one in asked:
            if one.seen is None:
                assert column == "anchor's own"
                assert one.concept in anchors
                continue
            assert one.seen in heads[one.head]
            assert ((one.head, one.seen) in erased) == (column in GONE)
            assert column != "two subjects" or one.seen not in anchors


@pytest.mark.parametrize("task", TASKS)
def test_descriptions_get_longer(task: str) -> None:
    columns = columns_of(task)
    lengths = [[len(re.findall(r"[\w'-]+", one.prompt)) for one in columns[i]] for i in IMPLIED]
    means = [sum(level) / len(level) for level in lengths]
    assert means == sorted(means)
    assert all(20 <= length <= 40 for length in lengths[2])
    for one in columns["implied 3"]:
        tokenize(one.prompt)  # it refuses a prompt that the text encoder would cut off


def test_sign_flips_are_those_of_a_fair_coin() -> None:
    assert sign_flip_p(np.array([5] * 10)) == pytest.approx(2 / 1024)
    assert sign_flip_p(np.array([0, 0, 3])) == 1
    # 4 of the 8 signs of (3, 2, 1) give a sum of 4 or more: 6, 4 and their opposites
    assert sign_flip_p(np.array([3, 2, -1])) == pytest.approx(4 / 8)
    assert sign_flip_p(np.array([0, 0])) == 1


@pytest.mark.parametrize("training_seeds", [1, 3])
def test_intervals_hold_and_differences_are_not_found_by_chance(training_seeds: int) -> None:
    """Prompts differ, training seeds too; the nominal rates are 0.95 and 0.05."""
    generator = np.random.default_rng(0)

    def drawn(of_prompts: np.ndarray, count: int) -> np.ndarray:
        of_training = generator.normal(0, 0.5, (count, 1, 1)) if count > 1 else 0
        chance = 1 / (1 + np.exp(-(of_prompts + of_training)))
        return (generator.random((count, 10, 5)) < chance).astype(float)

    truth = (1 / (1 + np.exp(-generator.normal(-1, 1.1, 100_000)))).mean()
    held = found = 0
    for _ in range(300):
        prompts = generator.normal(-1, 1, (1, 10, 1))
        one, other = drawn(prompts, training_seeds), drawn(prompts, 1)
        held += truth in share(one).interval
        found += difference(one, other).p < 0.05
    assert held >= 0.92 * 300
    assert found <= 0.08 * 300


def test_training_seeds_that_disagree_widen_the_interval() -> None:
    agree = np.zeros((3, 10, 5))
    agree[:, :, 0] = 1
    disagree = np.zeros((3, 10, 5))
    disagree[0, :, :3] = 1
    assert share(agree).rate == share(disagree).rate == Fraction(1, 5)
    narrow, wide = share(agree).interval, share(disagree).interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    nothing = np.zeros((1, 10, 5))
    assert difference(agree, nothing).p < 0.01
    assert difference(disagree, nothing).p > 0.05


def test_nothing_seen_is_no_certainty() -> None:
    assert 0 < share(np.zeros((3, 10, 5))).interval.high < 0.3
    assert share(np.zeros((1, 10, 5))).interval.high > 0.05


def line(method: str, column: str, prompt: int, hits: str, seed: str = "") -> dict[str, str]:
    values = ("one", method, seed, column, "snoopy", f"prompt {prompt}", hits)
    return dict(zip(HITS_COLUMNS, values, strict=True))


def cost(method: str, seed: str = "", failed: str = "", seconds: str = "1.25") -> dict[str, str]:
    told = ("", "", "", "", "", "", "") if failed or method in (ORIGINAL, IDEAL) else (
        seconds, "300", "0.005", "0.1", "0.2", "0.3", "0.5",
    )  # fmt: skip
    return dict(zip(COSTS_COLUMNS, ("one", method, seed, failed, *told), strict=True))


@pytest.fixture
def small() -> Task:
    """Ten prompts in two columns: uce loses others, null-space leaves all that is named."""
    rates = {
        ORIGINAL: ("11111", "11111"),
        "erasepro": ("10000", "11110"),
        "uce": ("00000", "00000"),
        "null-space": ("11111", "11110"),
    }
    hits = [
        line(method, column, i, of_column)
        for method, of_method in rates.items()
        for column, of_column in zip(("named", "others"), of_method, strict=True)
        for i in range(10)
    ]
    for seed in "012":
        hits += [line("ac", "named", i, "10000", seed) for i in range(10)]
        hits += [line("ac", "others", i, "11110", seed) for i in range(10)]
    stock = [{**h, "column": "named, stock"} for h in hits if h["column"] == "named"]
    costs = [cost(method) for method in rates] + [cost("ac", s, seconds=s) for s in "012"]
    costs.append(cost("esd-x", "0", failed="no room"))
    unfinished = [line("esd-u", "named", 0, "11111", "0")]
    again = [line("erasepro", "named", 0, "10000")]
    control = [line(IDEAL, "named", i, "00000") for i in range(10)]
    costs.append(cost(IDEAL))
    (task,) = tasks_of(*in_order([*hits, *stock, *unfinished, *again, *control], costs))
    return task


def rows_of(text: str) -> dict[str, Sequence[str]]:
    split = [re.split(r"(?<!\\)\|", row) for row in text.splitlines()]
    return {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in split}


def test_a_table_has_rates_marks_and_costs(small: Task) -> None:
    rows = rows_of(table(small))
    names = ["*original*", "*anchor's words*", "erasepro", "uce", "null-space", "ac"]
    assert list(rows)[2:] == names
    assert rows["*anchor's words*"] == ["0.00 \\| –", "–", "–", "–", "–"]
    assert rows["*original*"] == ["1.00 \\| 1.00", "1.00", "–", "–", "–"]
    assert rows["erasepro"][:2] == ["0.20 \\| 0.20", "0.80"]
    assert rows["uce"][:2] == ["**0.00**▴ \\| **0.00**▴", "0.00▾"]
    assert rows["null-space"][:2] == ["1.00▾ \\| 1.00▾", "0.80"]
    assert rows["ac"] == ["0.20 \\| 0.20", "0.80", "0.01 \\| 0.10", "0.20 \\| 0.30", "1.0"]


def test_what_is_better_and_what_is_worst_is_told(small: Task) -> None:
    said = verdict([small])
    assert "`uce` in “named” (0.00, 0.00…" in said
    assert "others" not in said
    worst = rows_of(worst_table(small))
    assert worst["uce"] == ["–", "snoopy in “others”: 0.00"]
    assert worst["erasepro"] == ["snoopy in “named”: 0.20", "snoopy in “others”: 0.80"]
    assert heading(small) == "snoopy → dog"


def test_the_page_names_what_gave_nothing_and_keeps_its_words(small: Task) -> None:
    page = "Words.\n\n<!-- verdict -->\nold\n<!-- end -->\n\n<!-- tables -->\n<!-- end -->\nMore.\n"
    text = filled(page, [small])
    assert text.startswith("Words.\n")
    assert text.endswith("<!-- end -->\nMore.\n")
    assert "old" not in text
    assert "`esd-x` gave nothing: no room" in text
    assert filled(text, [small]) == text


def test_figures_in_the_file_of_rates(small: Task) -> None:
    lines = {(r["method"], r["column"]): r for r in rate_lines([small])}
    ac = lines["ac", "named"]
    assert (ac["hits"], ac["pictures"], ac["difference"]) == (30, 150, "0.0000")
    assert float(str(lines["uce", "others"]["p_holm"])) == pytest.approx(3 * 2 / 1024, rel=0.01)
    assert not set(KEPT) & set(GONE)
