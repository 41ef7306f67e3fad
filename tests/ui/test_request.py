"""What the fields hold becomes a recipe, or a mistake in words."""

from pathlib import Path

import pytest

from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.request import Request, pair_of, pair_text

TWO = "version: 1\nname: two\nconcepts: [{target: Van Gogh, anchor: artist}]\n"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "one.yaml").write_text("version: 1\nconcepts: [{target: snoopy, anchor: dog}]\n")
    (tmp_path / "two.yaml").write_text(TWO)
    (tmp_path / "other.yaml").write_text(TWO + "clip_skip: [2]\n")
    (tmp_path / "third.yaml").write_text(TWO + "clip_skip: [1]\n")
    return Folders([tmp_path])


def pairs(request: Request, folders: Folders) -> list[tuple[str, str]]:
    return [(c.target, c.anchor) for c in request.recipe(folders).concepts]


def test_words_make_a_recipe(folders: Folders) -> None:
    request = Request(pairs=(pair_text(" snoopy ", "dog"), pair_text("a → b", "")), strength=2.5)
    recipe = request.recipe(folders)
    assert [(c.target, c.anchor) for c in recipe.concepts] == [("snoopy", "dog"), ("a → b", "")]
    assert recipe.strength == 2.5
    assert recipe.name == "snoopy+a → b"


def test_recipes_and_words_are_erased_together(folders: Folders) -> None:
    request = Request(recipes=("one.yaml", "two.yaml"), pairs=("cat → dog", "snoopy → dog"))
    assert pairs(request, folders) == [("snoopy", "dog"), ("Van Gogh", "artist"), ("cat", "dog")]


def test_recipes_that_contradict_each_other_are_refused(folders: Folders) -> None:
    with pytest.raises(RecipeError, match="cannot be erased together"):
        Request(recipes=("third.yaml", "other.yaml")).recipe(folders)


def test_what_the_publisher_says_stands_in_the_recipe(folders: Folders) -> None:
    recipe = Request(recipes=("one.yaml",), author=" Jane Doe ", purpose="").recipe(folders)
    assert recipe.release
    assert (recipe.release.author, recipe.release.purpose) == ("Jane Doe", None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(), "choose a recipe, or add words"),
        (Request(pairs=("dog → dog",)), "are the same to the model"),
        (Request(recipes=("one.yaml",), strength=-1), "strength: should be more than 0"),
    ],
)
def test_mistakes_are_said_in_words(request_: Request, words: str, folders: Folders) -> None:
    with pytest.raises(RecipeError, match=words):
        request_.recipe(folders)


def test_a_recipe_elsewhere_is_not_read(folders: Folders) -> None:
    with pytest.raises(UsageError, match="outside"):
        Request(recipes=("/etc/passwd",)).recipe(folders)


@pytest.mark.parametrize(("target", "anchor"), [("snoopy", "dog"), ("a → b", "c"), ("x", "")])
def test_a_listed_pair_is_read_again(target: str, anchor: str) -> None:
    assert pair_of(pair_text(target, anchor)) == (target, anchor)


def test_the_suggested_name_says_what_was_erased() -> None:
    request = Request("folder/model.ckpt", ("recipes/van-gogh.yaml",), ("Mickey / Mouse → a",))
    assert request.suggested_output() == "folder/model-van-gogh+Mickey---Mouse.safetensors"
    assert Request("model.ckpt").suggested_output() == ""
