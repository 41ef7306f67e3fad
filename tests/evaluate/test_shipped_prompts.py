"""The shipped prompts: ten for each concept of some recipes, none of them solved for."""

import re
from collections import Counter
from pathlib import Path

import pytest

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.evaluate.plan import EvalPrompt, plan_prompts, shipped_prompts
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS, RETAIN_PROMPTS

NAMED = ("nudity", "dali", "monet", "rutkowski", "van-gogh", "snoopy")
PAPER = sorted(Path("recipes/paper").glob("*.yaml"))
RECIPES = [load_recipe(recipe) for recipe in (*NAMED, *map(str, PAPER))]
PROMPTS = shipped_prompts()
CONCEPTS = {concept.target for recipe in RECIPES for concept in recipe.concepts}


def of(role: str) -> list[EvalPrompt]:
    return [one for one in PROMPTS if one.role == role]


def test_every_concept_has_ten() -> None:
    assert len(CONCEPTS) == 36
    assert Counter(one.concept for one in of("target")) == dict.fromkeys(CONCEPTS, 10)
    assert len(of("other")) == 30
    assert {one.concept for one in of("implied")} < CONCEPTS
    assert set(Counter(one.concept for one in of("implied")).values()) == {5}
    assert not of("anchor"), "made of the target's"


def test_no_prompt_and_no_id_stands_there_twice() -> None:
    for values in ([one.prompt.lower() for one in PROMPTS], [one.prompt_id for one in PROMPTS]):
        assert [value for value, count in Counter(values).items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z0-9-]+", one.prompt_id) for one in PROMPTS)


def test_they_name_their_concept_as_the_recipe_does() -> None:
    for one in of("target"):
        assert re.search(rf"(?<!\w){re.escape(one.concept)}(?!\w)", one.prompt), one
    for one in of("other"):
        assert one.concept in one.prompt, one


def test_anchors_are_those_of_a_recipe() -> None:
    pairs = {(concept.target, concept.anchor) for r in RECIPES for concept in r.concepts}
    assert {(one.concept, one.anchor) for one in PROMPTS if one.role != "other"} <= pairs
    assert not any(one.anchor for one in of("other"))


def test_implied_prompts_name_nothing_that_is_erased_with_their_concept() -> None:
    for recipe in RECIPES:
        words = [concept.target.lower() for concept in recipe.concepts]
        for one in of("implied"):
            if one.concept.lower() in words:
                told = re.findall(r"[\w']+", one.prompt.lower())
                named = [w for w in words if f" {w} " in f" {' '.join(told)} "]
                assert not named, one


def test_none_is_solved_or_probed() -> None:
    used = {tokenize(prompt).ids for prompt in (*RETAIN_PROMPTS, *DRIFT_PROMPTS)}
    for recipe in RECIPES:
        for concept in recipe.concepts:
            for templates in (concept.prompts, recipe.probe.prompts):
                for pair in concept.prompt_pairs(templates):
                    used |= {tokenize(prompt).ids for prompt in pair}
    for recipe in RECIPES:
        for one in plan_prompts(recipe, [], is_demo=False):
            assert tokenize(one.prompt).ids not in used, one


def test_they_are_short_and_plain() -> None:
    for one in PROMPTS:
        assert tokenize(one.prompt).count <= 30, one
        assert one.prompt == " ".join(one.prompt.split())
        assert one.prompt.isascii()
        assert one.prompt[-1] not in ",."


def test_nudity_is_of_adults() -> None:
    (nudity,) = (recipe for recipe in RECIPES if recipe.name == "nudity")
    targets = {concept.target for concept in nudity.concepts}
    for one in PROMPTS:
        if one.concept in targets:
            young = r"\b(child|children|kid|kids|boys?|girls?|teens?|teenagers?|young|school|bab)"
            assert not re.search(young, one.prompt), one


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_each_of_them_is_asked_about_in_full(recipe: Recipe) -> None:
    """The anchor's prompts still read: nothing is left where its words are none."""
    asked = plan_prompts(recipe, [], is_demo=False)
    for concept in recipe.concepts:
        mine = [one for one in asked if one.concept == concept.target]
        by_role = Counter(one.role for one in mine)
        assert (by_role["target"], by_role["anchor"]) == (10, 10)
        for one in mine:
            assert one.anchor == concept.anchor
            if one.role == "anchor":
                assert concept.anchor in one.prompt
                assert not re.search(r" ,|\b(of|with|by|a|an|the|and)$", one.prompt), one
                assert not re.search(r"\b(a [aeiou]|an [^aeiou])", one.prompt.lower()), one
    assert sum(one.role == "other" for one in asked) >= 25
