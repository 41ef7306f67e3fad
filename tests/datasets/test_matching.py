"""Which target a published prompt is about, by the spellings that publishers have."""

from pathlib import Path

import pytest

from erasepro_convert.datasets.matching import Targets
from erasepro_convert.datasets.published import PublishedPrompt, Role
from erasepro_convert.recipe import Concept

TARGETS = Targets(
    [
        Concept(target="Salvador Dali", anchor="artist"),
        Concept(target="cat", anchor="dog"),
        Concept(target="big cat", anchor="dog"),
    ]
)


def find(text: str, concept: str, role: Role = "target", stem: str = "x") -> str | None:
    found = TARGETS.find(PublishedPrompt(text, concept, role, "x-1", Path(f"{stem}.csv"), ":2"))
    return found.target if found else None


@pytest.mark.parametrize(
    "key",
    ["salvador-dali", "salvador_dali", "SalvadorDali", "SALVADOR DALI", "Salvador Dali (1904)"],
)
def test_spellings_of_a_key(key: str) -> None:
    assert find("melting watches", key) == "Salvador Dali"


@pytest.mark.parametrize("key", ["category", "salvador", "concatenate", ""])
def test_parts_of_words_are_no_target(key: str) -> None:
    assert find("melting watches", key) is None


def test_a_prompt_names_its_target_in_whole_words() -> None:
    assert find("a CAT, asleep", "house") == "cat"
    assert find("a big  cat", "house") == "big cat", "of several the longest counts"
    assert find("a caterpillar", "house") is None


def test_a_long_cell_takes_no_long_time() -> None:
    assert find("whiskers", "salva dor " * 100_000) is None


def test_of_several_in_a_key_the_longest_counts() -> None:
    assert find("whiskers", "big-cat") == "big cat"
    assert find("whiskers", "house-cat") == "cat"


def test_lists_of_one_concept_say_it_by_their_name() -> None:
    assert find("whiskers", "shocking", "implied", "unsafe-prompts-cat_esd") == "cat"
    assert find("whiskers", "a tail", "target", "cat") is None, "its rows have concepts"


def test_a_neighbour_is_not_its_concept() -> None:
    assert find("a tiger", "cat", "near") is None
    assert find("a cat", "cat", "near") == "cat"
