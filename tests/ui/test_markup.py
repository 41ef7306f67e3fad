"""Texts that a file or a user brings come out as texts."""

from erasepro_convert import Inspection
from erasepro_convert.ui import markup

HOSTILE = "<script>alert(1)</script> ${1+1} {{value}} \x1b[31m ' \" &"


def test_nothing_in_a_text_is_obeyed() -> None:
    shown = markup.text(HOSTILE)
    assert not set(shown) & set("<>\"'{}$`\x1b")
    assert markup.text("two\nlines") == "two\nlines"
    assert len(markup.text("x" * 100_000)) < 3000


def test_no_part_of_the_page_lets_a_text_through() -> None:
    parts = [
        markup.error(HOSTILE),
        markup.note(HOSTILE),
        markup.table(HOSTILE, [HOSTILE], [[HOSTILE, HOSTILE]]),
        markup.inspection(Inspection(HOSTILE, None, variant=HOSTILE, facts=(HOSTILE,))),
    ]
    for part in parts:
        assert "<script" not in part
        assert "${" not in part
        assert "{{" not in part


def test_no_error_is_no_element() -> None:
    assert markup.error("") == ""
    assert 'role="alert"' in markup.error("a\nb")
    assert "a<br>b" in markup.error("a\nb")


def test_every_explanation_can_be_reached_by_keyboard() -> None:
    for word in markup.TERMS:
        assert 'tabindex="0"' in markup.term(word)
