"""Text that comes from others stays text, where Markdown is read."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from erasepro_convert.runtime.markdown import Markdown, address, code, plain, verbatim

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "`code`",
    "**bold** _it_ ~~no~~",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/p.png)",
    "http://evil.example www.evil.example a@evil.example",
    "# heading",
    "1. one",
    "12) twelve",
    "- item",
    "---",
    "=== ",
    "> quoted",
    "&lt; &copy; $$x$$ :smile: \\[ [^1]",
    "-0.5",
    "3.5",
]


def rendered(text: str) -> str:
    gfm = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return str(gfm.render(text))


class Reader(HTMLParser):
    """Collects tags and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_a_paragraph_shows_its_text_and_nothing_else(text: str) -> None:
    read = Reader(rendered(f"{plain(text)}\n"))
    assert read.tags == ["p"]
    assert read.text.strip() == text.strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_stays_one_cell(text: str) -> None:
    read = Reader(rendered(f"| a | b |\n|---|---|\n| {plain(text)} | {code(text)} |\n"))
    assert read.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "code"]
    assert [line for line in read.text.split("\n") if line][2:] == [text.strip()] * 2


@given(st.text())
def test_any_text_is_one_line_of_text(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert all(character.isprintable() for character in shown)
    assert Reader(rendered(f"x {shown}\n")).tags == ["p"]


def test_plain_words_stay_readable() -> None:
    for text in (
        "Van Gogh",
        "a dog, asleep (old)",
        "it's 0.5",
        "stable-diffusion-v1",
        "“so” – 1 %",
    ):
        assert plain(text) == text


def test_what_cannot_be_seen_is_spelt() -> None:
    assert unescape(plain("a\u202eb\u200bc")) == "a\\u202eb\\u200bc"
    assert plain("two\n\n lines\t") == "two lines"


def test_markdown_is_not_escaped_again() -> None:
    assert plain(Markdown("**so**")) == "**so**"
    assert plain(plain("**so**")) == plain("**so**")


def test_names_in_links_and_blocks() -> None:
    assert address("a (b)<c>.png") == "a%20%28b%29%3Cc%3E.png"
    assert verbatim("one\n```\n<b>") == "one\\n```\\n<b>"
    assert code("a.safetensors") == "`a.safetensors`"
    assert re.fullmatch(r"<code>[^<>`]*</code>", code("a`b<c>"))
