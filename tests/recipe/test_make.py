"""A recipe from plain data is the recipe of the same YAML."""

from typing import Any

import pytest

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.make import make_recipe
from tests.conftest import WriteRecipe

CONCEPT = {"target": "snoopy", "anchor": "dog"}


def test_it_is_what_yaml_makes(write_recipe: WriteRecipe) -> None:
    made = make_recipe({"concepts": [CONCEPT], "strength": 2})
    assert made == load_recipe(
        write_recipe("name: recipe\nversion: 1\nconcepts: [{target: snoopy, anchor: dog}]\n"
                     "strength: 2\n")
    )  # fmt: skip
    assert load_recipe(write_recipe(made.to_yaml())).digest == made.digest


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "concepts is missing"),
        ({"concepts": []}, "concepts: must not be empty"),
        ({"concepts": [CONCEPT], "strength": -1}, "strength: should be more than 0, not -1"),
        ({"concepts": [{"target": "dog", "anchor": "dog"}]}, r"concepts\[0\]: .* are the same"),
        ({"concepts": [CONCEPT], "strenght": 1}, "strenght: unknown key; did you mean strength"),
    ],
)
def test_each_mistake_is_said_with_its_key(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make_recipe(data)
