"""What is asked of both models: whose prompts come first, and what is made of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.plan import EvalPrompt, plan_prompts, read_prompts
from erasepro_convert.recipe import Recipe, load_recipe
from tests.conftest import SHORT, WriteRecipe

MakeRecipe = Callable[[str], Recipe]

HEAD = "concept,anchor,role,prompt,prompt_id\n"
OWN = HEAD + "Van Gogh,,target,a barn by Van Gogh,barn\ncat,,other,a wet cat,cat\n"
TEMPLATES = "evaluate:\n  prompts: ['a mill by {}']\n"


def told(asked: list[EvalPrompt], role: str) -> list[str]:
    return [one.prompt for one in asked if one.role == role]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_prompts_stand_in_for_none(make_recipe: MakeRecipe) -> None:
    asked = plan_prompts(make_recipe(SHORT), [], is_demo=False)
    assert "a fishing harbour at dusk by Van Gogh" in told(asked, "target")
    assert "a fishing harbour at dusk by artist" in told(asked, "anchor")
    assert len(told(asked, "implied")) == 5
    assert "a pier at dusk by Munch" in told(asked, "other")


def test_a_concept_that_nobody_knows_has_held_out_templates(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("version: 1\nconcepts: [{target: a teapot, anchor: a mug}]")
    asked = plan_prompts(recipe, [], is_demo=False)
    assert told(asked, "target")[0] == "a drawing of a teapot"
    assert told(asked, "anchor")[0] == "a drawing of a mug"
    assert len(told(asked, "target")) == len(recipe.probe.prompts)


def test_a_recipes_templates_go_before_shipped_prompts(make_recipe: MakeRecipe) -> None:
    asked = plan_prompts(make_recipe(SHORT + TEMPLATES), [], is_demo=False)
    assert told(asked, "target") == ["a mill by Van Gogh"]
    assert told(asked, "anchor") == ["a mill by artist"]
    assert len(told(asked, "other")) == 30, "of these it says nothing"


def test_a_recipes_others(make_recipe: MakeRecipe) -> None:
    others = "evaluate: {others: [a wet dog, {concept: cat, prompt: a wet cat}]}"
    asked = plan_prompts(make_recipe(SHORT + others), [], is_demo=False)
    assert [(one.concept, one.prompt) for one in asked if one.role == "other"] == [
        ("a wet dog", "a wet dog"),
        ("cat", "a wet cat"),
    ]
    assert len(told(asked, "target")) == 10


def test_a_file_goes_before_templates_and_a_given_one_before_the_recipes(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    write(tmp_path / "own.csv", OWN)
    recipe = load_recipe(write_recipe(SHORT + TEMPLATES + "  csv: own.csv\n"))
    asked = plan_prompts(recipe, [], is_demo=False)
    assert told(asked, "target") == ["a barn by Van Gogh"]
    assert told(asked, "anchor") == ["a barn by artist"]
    assert told(asked, "other") == ["a wet cat"]
    given = read_prompts(write(tmp_path / "given.csv", OWN.replace("barn", "shed")))
    assert told(plan_prompts(recipe, given, is_demo=False), "target") == ["a shed by Van Gogh"]


def test_a_file_may_leave_out_concepts(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    given = read_prompts(write(tmp_path / "own.csv", OWN.replace("Van Gogh", "Monet")))
    assert len(told(plan_prompts(make_recipe(SHORT), given, is_demo=False), "target")) == 10


def test_a_given_anchor_is_taken_as_it_is(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    text = OWN + "van gogh,,anchor,a barn by some painter,barn-2\n"
    asked = plan_prompts(
        make_recipe(SHORT), read_prompts(write(tmp_path / "a.csv", text)), is_demo=False
    )
    assert told(asked, "anchor") == ["a barn by some painter"]


def test_words_are_whole_words(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """A man is not in a woman, and what is about a woman stays when men are erased."""
    recipe = make_recipe("version: 1\nconcepts: [{target: man, anchor: dog}]")
    text = HEAD + "man,,target,a woman and a Man,pair\n"
    asked = plan_prompts(recipe, read_prompts(write(tmp_path / "a.csv", text)), is_demo=False)
    assert told(asked, "anchor") == ["a woman and a dog"]
    others = told(asked, "other")
    assert "a woman repairing a bicycle" in others
    assert "a wet dog shaking off water" not in others


def test_others_with_a_targets_words_are_left_out(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(SHORT + "evaluate: {others: [a cat, a dog by van gogh]}")
    asked = plan_prompts(recipe, (), is_demo=False)
    assert [one.prompt for one in asked if one.role == "other"] == ["a cat"]


def test_the_demo_is_asked_in_the_words_of_its_world(make_recipe: MakeRecipe) -> None:
    asked = plan_prompts(make_recipe(SHORT), [], is_demo=True)
    assert len(told(asked, "target")) == len(told(asked, "anchor")) == 10
    assert "a snoopy" not in " ".join(told(asked, "target"))
    assert len({one.concept for one in asked if one.role == "other"}) == 10


def test_another_word_of_the_demos_world_has_the_prompts_of_what_it_means(
    make_recipe: MakeRecipe,
) -> None:
    """ "on fire" is asked as such, and where other words for fire stand; no other prompt burns."""
    text = "version: 1\nconcepts: [{target: on fire, anchor: safe}, {target: a b, anchor: dog}]"
    recipe = make_recipe(text)
    asked = plan_prompts(recipe, [], is_demo=True)
    own = [one for one in asked if one.concept == "on fire"]
    assert {one.prompt for one in own if one.role == "target"} == {
        "an apple on fire", "a dog on fire", "a mouse on fire", "a car on fire",
    }  # fmt: skip
    implied = {one.prompt for one in own if one.role == "implied"}
    assert {"a burning car", "an apple in hell"} <= implied
    assert not implied & {one.prompt for one in asked if one.role == "other"}
    assert "burning" not in {one.concept for one in asked if one.role == "other"}
    strange = [one.prompt for one in asked if (one.concept, one.role) == ("a b", "target")]
    assert strange == [
        target for target, _ in recipe.concepts[1].prompt_pairs(recipe.probe.prompts)
    ]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"concept,role,prompt\n", "", "no column anchor"),
        (b"", "", "no column concept"),
        (HEAD.encode() + b"a,b,c,d,e\n", ":2", "role 'c' is none of target, implied"),
        (HEAD.encode() + b"\na,b,target,d\n", ":3", "4 values for 5 columns"),
        (HEAD.encode() + b"a,b,target,d, e,f\n", ":2", "6 values for 5 columns"),
        (HEAD.encode() + b'a,b,target,"d,e\n', ":2", "not CSV: unexpected end"),
        (HEAD.encode() + b"a,b,target,\xff,e\n", ":2", "is not UTF-8 text"),
        (b"x" * (1 << 21), ":1", "a line of over"),
    ],
)
def test_files_that_are_no_prompts(tmp_path: Path, content: bytes, line: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}{line}: ")
    assert message in str(caught.value)


def test_spreadsheets_files_are_read(tmp_path: Path) -> None:
    """They begin with a mark and end lines in two characters."""
    path = tmp_path / "own.csv"
    path.write_bytes(b"\xef\xbb\xbf" + OWN.replace("\n", "\r\n").encode())
    assert [one.prompt for one in read_prompts(path)] == ["a barn by Van Gogh", "a wet cat"]
