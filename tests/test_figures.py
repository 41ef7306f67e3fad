"""Pages have the figures of the CSV files, each of them, rounded alike."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from scipy.stats import fisher_exact

from benchmarks import method_tables
from benchmarks.addresses import SOURCES, AddressError, figure, read
from benchmarks.exact import like, rounded
from benchmarks.figures import PAGES, filled, unmarked
from benchmarks.method_settings import ENCODERS, HELD, RESULTS
from erasepro_convert.evaluate.metrics.intervals import wilson_interval

MEASURED = (
    "README",
    "audit",
    "batch",
    "cluster",
    "commands",
    "comparison",
    "evaluation",
    "lora",
    "method",
    "speed",
    "storage",
    "stress",
)
"""Pages in which a decimal is a measured figure unless it is one of these."""
CONSTANTS = (
    r"Python 3\.\d+", r"bash \(4\.4", r"torch 2\.\d", "SD1.x",  # versions and names
    "Apache-2.0", "License 1.1",
    "leak 0.5 and drift 0.3", "a drift of 0.3", "from 0.4 on", "a leak of 0.45",  # limits
    r"[Aa] tolerance of 0\.3", "one of 0.1 costs", r"α = 0\.\d", "offset 1.5",  # settings
    "interval of 0.00 reaches 0.04, that of 0.50 is ±0.10",  # computed below
    "about 1.4 for two words",  # the square root of 2
    "η = 1, not 0.01", r"[Ww]ith 0\.01", r"Of 0\.001, 0\.01, 0\.1 and 1", "ends near 0.1",
    "at 0.25 and 0.6", "0.5 for what is", "CC BY 4.0", r"version 1\.1\.2", r"2\.5·max",
    "strength 0.5", r"1\.15, 1\.5 or 1\.85", r"times 1\.4", "6.7 times as high",
    r"ESD-x\s+0\.001, ESD-u 0\.0003, AC 0\.001",
)  # fmt: skip
METHODS = ("UCE, 1 template", "UCE, 8 templates", "null-space")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_has_the_figures_of_the_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "python -m benchmarks.figures"


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem in MEASURED], ids=str)
def test_no_figure_is_typed_by_hand(page: Path) -> None:
    measured = page.read_text(encoding="utf-8").partition("## Published figures")[0]
    text = re.sub("|".join(CONSTANTS), "", unmarked(measured))
    typed = [line.strip() for line in text.splitlines() if re.search(r"\d\.\d", line)]
    assert not typed


def test_every_task_of_the_study_has_its_table() -> None:
    page = Path("docs/method.md").read_text(encoding="utf-8")
    for name in method_tables.tables(read(RESULTS)):
        assert f"<!-- {name} -->" in page


def test_every_figure_that_was_measured_by_hand_is_in_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for line in SOURCES["by-hand"].lines():
        assert f"by-hand {line['name']}/value" in pages


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        ("5/1000", 2, "0.01"),
        ("0.005", 2, "0.01"),
        ("0.00499", 2, "0.00"),
        ("0.495", 2, "0.50"),  # as a float it is below the half
        ("0.125", 2, "0.13"),  # as a float it is the half, which floats round to the even digit
        ("-0.125", 2, "-0.13"),
        ("-0.004", 2, "0.00"),
        ("1", 2, "1.00"),
        ("0.5", 0, "1"),
    ],
)
def test_a_half_is_rounded_up(value: str, digits: int, shown: str) -> None:
    assert rounded(Fraction(value), digits) == shown


@pytest.mark.parametrize(
    ("value", "written", "shown"),
    [
        ("0.876", "0.9", "0.9"),
        ("0.876", "0.00", "0.88"),
        ("1103.65", "1,100", "1,104"),
        ("1103.65", "7.0", "1,103.7"),
        ("0.00000184", "9.9e-01", "1.8e-06"),
        ("0.005", "2", "0"),
        ("-0.3", "1.0", "-0.3"),
    ],
)
def test_a_figure_keeps_its_notation(value: str, written: str, shown: str) -> None:
    assert like(Fraction(value), written) == shown


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("study demo/ten/defaults/colours", "88/100"),
        ("study demo/ten/before/colours - study demo/ten/defaults/colours", "5/100"),
        ("max study demo/ten/UCE*|null-space/colours", "59/100"),
        ("min study demo/*/defaults/neighbours", "99/100"),  # empty cells do not count
        ("mean study demo/attribute|style/before/colours", "93/100"),
        ("max cells */*/[!t]*/*/named where leak<=0.45", "4/100"),
        ("max growth 100/new/anonymous_mb / 1000", "1.200736"),
        ("batch-growth 1/1/copy+batch", "2.4557350830000358"),
    ],
)
def test_addresses(address: str, value: str) -> None:
    assert figure(address) == Fraction(value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nowhere ten/defaults/colours", "source"),
        ("study", "no address"),
        ("study ten/defaults/colours", "file, task, setting"),
        ("study demo/ten/default/colours", "is 0 figures"),
        ("study demo/ten/defaults/colour", "columns are file"),
        ("study demo/attribute/defaults/neighbours", "is 0 figures"),
        ("study demo/*/defaults/colours", "is 7 figures"),
        ("max cells */*/*/*/named where leak<=0.01", "is 0 figures"),
        ("max cells */*/*/*/named where leaks<=0.45", "columns are file"),
        ("max cells */*/*/*/named where leak>=0.45", "columns are file"),
    ],
)
def test_an_address_without_a_figure_is_an_error(address: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        figure(address)


ROWS = "<!-- rows study {}/colours; study {}/neighbours -->\n|  | a | b |\n|---|---|---|\n"


def test_marked_figures_are_replaced_and_nothing_else() -> None:
    text = "ten: **0.9<!-- study demo/ten/defaults/colours -->** of 0.8\n"
    assert filled(text) == text
    text = "ten: 0.00<!-- study demo/ten/defaults/colours --> of 0.00\n"
    assert filled(text) == text.replace("0.00<", "0.88<")


def test_rows_keep_their_words_and_their_bold() -> None:
    rows = "| 10 fires<!-- demo/ten/null-space --> | **0.00** s | 0.0 |\n"
    other = "| fire<!-- demo/attribute/defaults --> | 0.00 \\| – |\n"
    text = filled(f"{ROWS}{rows}{other}<!-- end -->\n")
    assert "| 10 fires<!-- demo/ten/null-space --> | **0.59** s | 0.8 |\n" in text
    assert "| fire<!-- demo/attribute/defaults --> | 0.93 \\| – |\n" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.88 <!-- study demo/ten/defaults/colours -->", "behind no figure"),
        ("<!-- tens -->\n| 0.88 |\n<!-- end -->", "no table is called 'tens'"),
        (f"{ROWS}| ten | 0.88 | 1.00 |\n<!-- end -->", "does not say of what it is"),
        (f"{ROWS}| <!-- demo/ten/defaults --> | 0.88 |\n<!-- end -->", "has 1 figures of 2"),
        (f"{ROWS}| ten<!-- demo/ten/default --> | 0.88 | 1.00 |\n<!-- end -->", "is 0 figures"),
    ],
)
def test_a_comment_that_no_figure_follows_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        filled(text)


def test_a_typed_figure_is_found() -> None:
    typed = "code `0.1`, [0.2](0.3.md), 0.88<!-- study demo/ten/defaults/colours -->, typed 0.4"
    fence = "```text\n0.5\n```\n"
    assert re.findall(r"\d\.\d", unmarked(f"{fence}{typed}\n{ROWS}| 0.6 |\n<!-- end -->\n")) == [
        "0.2",
        "0.4",
    ]


def test_intervals_of_a_hundred_pictures() -> None:
    """docs/method.md says how wide they are."""
    assert rounded(Fraction(wilson_interval(0, 100).high), 2) == "0.04"
    half = wilson_interval(0.5, 100)
    assert rounded(Fraction(half.high - half.low) / 2, 2) == "0.10"


def test_up_to_ten_concepts_no_other_method_is_better_beyond_chance() -> None:
    """docs/method.md says so: Fisher's exact test at 95 %, of each column by itself."""
    shares = [f"{name}_{e}" for name in ("explicit", "implicit", "anchor") for e in ENCODERS]
    lines = {(line["file"], line["task"], line["setting"]): line for line in read(RESULTS)}
    compared = 0
    for (file, task, method), line in lines.items():
        if file != "demo" or method not in METHODS or task == "twenty":
            continue
        defaults = lines[file, task, "defaults"]
        for column in (*shares, *HELD):
            if not line[column]:
                continue
            theirs, ours = (tuple(map(int, one[column].split("/"))) for one in (line, defaults))
            counts = [[hits, pictures - hits] for hits, pictures in (theirs, ours)]
            fewer = column.startswith(("explicit", "implicit"))
            alternative = "less" if fewer else "greater"
            compared += 1
            assert fisher_exact(counts, alternative).pvalue > 0.025, (task, method, column)
    assert compared > 150


@pytest.mark.parametrize("method", ["defaults", "erasepro-modified", "tolerance 0.3"])
@pytest.mark.parametrize("task", ["style", "five"])
@pytest.mark.parametrize("measure", ["leak", "drift"])
def test_what_no_picture_shows_changes_a_hundredth(method: str, task: str, measure: str) -> None:
    """docs/method.md says of these methods that they keep to 0.01."""
    most, least = (figure(f"{of} invariance {method}/{task}/*/{measure}") for of in ("max", "min"))
    assert rounded(most - least, 2) in ("0.00", "0.01")


def test_ranks_need_no_equal_steps() -> None:
    assert method_tables.spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert method_tables.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_equal_values_share_their_mean_rank() -> None:
    """Ranks are 1.5, 1.5, 3, 4 against 1, 2, 3, 4."""
    expected = 4.5 / (4.5 * 5) ** 0.5
    assert method_tables.spearman([0, 0, 5, 9], [1, 2, 3, 4]) == pytest.approx(expected)
