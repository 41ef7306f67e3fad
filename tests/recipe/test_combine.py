"""Several recipes as one, and recipes of words alone."""

from pathlib import Path

import pytest

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe import load_recipe, recipe_from_words

HERON = "version: 1\nabout: a bird\nconcepts: [{target: a heron, anchor: a bird}]\n"
OTTER = "version: 1\nconcepts: [{target: an otter, anchor: an animal}]\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(heron: str = "", otter: str = "") -> None:
    Path("heron.yaml").write_text(HERON + heron, encoding="utf-8")
    Path("otter.yaml").write_text(OTTER + otter, encoding="utf-8")


def test_the_concepts_of_all_are_one_recipe_in_the_order_given() -> None:
    write()
    both = load_recipe("otter.yaml,heron.yaml")
    assert both.name == "otter+heron"
    assert [concept.target for concept in both.concepts] == ["an otter", "a heron"]
    assert both.about == ""
    single = load_recipe("heron.yaml")
    assert both.changed(name="heron", concepts=list(single.concepts)).digest == single.digest


def test_what_one_of_them_sets_holds_for_all_and_sections_are_merged() -> None:
    write("strength: 3\nretain: {weight: 2}", "retain: {prompts: [a lake]}\nlimits: {leak: null}")
    both = load_recipe("heron.yaml,otter.yaml")
    assert (both.strength, both.retain.weight, both.retain.prompts) == (3, 2, ("a lake",))
    assert (both.limits.leak, both.limits.drift) == (None, 0.3)


def test_the_same_value_in_both_is_no_contradiction() -> None:
    write("layers: {unet: up.1-3}\nmethod: uce", "layers: {unet: up.1-3}\nmethod: uce")
    both = load_recipe("heron.yaml,otter.yaml")
    assert (both.method, both.layers.unet) == ("uce", ("up.1", "up.2", "up.3"))


@pytest.mark.parametrize(
    ("heron", "otter", "told"),
    [
        ("strength: 2", "strength: 3", "strength is 2 in heron and 3 in otter"),
        ("retain: {weight: 2}", "retain: {weight: 3}", "retain.weight is 2 in heron and 3 in "),
        ("tokens: {first: 8}", "tokens: all", "tokens is a mapping in heron and 'all' in otter"),
        ("limits: {leak: null}", "limits: {leak: 1}", "limits.leak is nothing in heron and 1"),
    ],
)
def test_a_contradiction_is_told_with_both_names(heron: str, otter: str, told: str) -> None:
    write(heron, otter)
    with pytest.raises(RecipeError) as caught:
        load_recipe("heron.yaml,otter.yaml")
    assert str(caught.value).startswith("heron and otter cannot be erased together: ")
    assert told in str(caught.value)


def test_of_three_the_two_that_contradict_each_other_are_named() -> None:
    write("strength: 2", "strength: 3")
    with pytest.raises(RecipeError, match="heron and otter cannot"):
        load_recipe("heron.yaml,snoopy,otter.yaml")


def test_a_concept_of_several_recipes_counts_once() -> None:
    write()
    Path("both.yaml").write_text(HERON + "name: both\n", encoding="utf-8")
    assert len(load_recipe("heron.yaml,both.yaml").concepts) == 1


def test_what_only_all_together_break_is_told_with_the_name_of_all() -> None:
    """The templates of one are held out by the other."""
    write("probe: {prompts: ['my {}']}")
    Path("otter.yaml").write_text(
        "version: 1\nconcepts: [{target: an otter, anchor: an animal, prompts: ['my {}']}]\n"
    )
    with pytest.raises(RecipeError, match=r"^heron\+otter: probe.prompts and prompts share 'my an"):
        load_recipe("heron.yaml,otter.yaml")


def test_a_file_of_prompts_lies_beside_the_recipe_that_names_it() -> None:
    write()
    Path("below").mkdir()
    Path("below/swan.yaml").write_text(HERON + "evaluate: {csv: prompts.csv, seeds: 3}")
    both = load_recipe("below/swan.yaml,otter.yaml")
    assert both.evaluate.csv == Path("below/prompts.csv")
    assert both.evaluate.seeds == 3


def test_a_mistake_has_the_line_of_its_own_file() -> None:
    write(otter="strenght: 2")
    with pytest.raises(RecipeError, match=r"^otter.yaml:3: strenght: unknown key"):
        load_recipe("heron.yaml,otter.yaml")


def test_words_are_a_recipe_with_all_defaults() -> None:
    recipe = recipe_from_words(["a heron", "a stork"], ["a bird"])
    assert recipe.name == "a heron+a stork"
    Path("same.yaml").write_text(
        "version: 1\nname: a heron+a stork\n"
        "concepts: [{target: a heron, anchor: a bird}, {target: a stork, anchor: a bird}]\n"
    )
    assert recipe.digest == load_recipe("same.yaml").digest
    pairs = recipe_from_words(["a heron", "an otter"], ["a bird", ""]).concepts
    assert [concept.anchor for concept in pairs] == ["a bird", ""]


@pytest.mark.parametrize(
    ("targets", "anchors", "told"),
    [
        (["a"], [], '--target needs --anchor, what it becomes, such as "artist"'),
        ([], ["a"], "--anchor says what a target becomes: --target is missing"),
        (["a", "b", "c"], ["d", "e"], "3 times and --anchor 2 times: give one anchor for all"),
        (["a"], ["d", "e"], "given 1 time and --anchor 2 times"),
        (["a"], ["A"], "--target: target and anchor are the same to the model: 'a'"),
        ([" "], ["a"], "--target: must not be empty"),
        (["a", "A"], ["b"], "--target: 'A' → 'b' stands here twice"),
    ],
)
def test_words_that_are_no_recipe(targets: list[str], anchors: list[str], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_words(targets, anchors)
    assert told in str(caught.value)
