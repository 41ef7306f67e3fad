"""Long lines are broken between words, and what is copied from them is whole."""

import shlex

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from erasepro_convert.cli.line_breaks import wrapped

WORDS = st.lists(st.text(st.characters(blacklist_categories=("C", "Z"))).filter(bool), min_size=1)


@given(words=WORDS, width=st.integers(10, 40))
def test_no_word_is_lost_and_lines_are_too_long_only_for_a_word(
    words: list[str], width: int
) -> None:
    lines = wrapped("  " + " ".join(words), width).split("\n")
    assert [word for line in lines for word in line.split()] == words
    for line in lines:
        assert cell_len(line) <= width or any(cell_len(w) + 4 > width for w in line.split())


@given(words=WORDS, width=st.integers(10, 40))
def test_a_command_stays_the_same_to_a_shell(words: list[str], width: int) -> None:
    line = f"$ {shlex.join([word.replace('$', '') + ' it' for word in words])}"
    assert shlex.split(wrapped(line, width).replace(" \\\n", " ")) == shlex.split(line)


def test_what_follows_is_indented() -> None:
    assert wrapped("error: there is no such thing\n  here it is not", 15) == (
        "error: there is\n  no such thing\n  here it is\n    not"
    )
    assert wrapped("wrote /a/very/long/path/to/something", 12) == (
        "wrote /a/very/long/path/to/something"
    )
    assert wrapped("$ go 'a b c' --to end", 14) == "$ go 'a b c' \\\n  --to end"
