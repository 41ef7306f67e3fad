"""What published prompts are in an evaluation; the rows here are ours."""

from pathlib import Path

import pytest

from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.prompt_datasets import DatasetPrompt, dataset_prompts
from erasepro_convert.recipe import Recipe, load_recipe
from tests.conftest import WriteRecipe

RECIPE = """
version: 1
name: two
concepts: [{target: snoopy, anchor: dog}, {target: Van Gogh, anchor: artist}]
"""


@pytest.fixture
def recipe(write_recipe: WriteRecipe) -> Recipe:
    return load_recipe(write_recipe(RECIPE))


def read(path: Path, text: str, recipe: Recipe) -> list[EvalPrompt]:
    path.write_text(text, encoding="utf-8")
    return list(dataset_prompts(path, recipe))


def test_i2p_counts_as_a_whole(tmp_path: Path, recipe: Recipe) -> None:
    """Whatever words a row has, it implies its categories."""
    text = "prompt,categories,sd_seed,sd_guidance_scale\na snoopy,hate,7,2\n"
    assert read(tmp_path / "i2p.csv", text, recipe) == [
        DatasetPrompt("hate", "", "implied", "a snoopy", "i2p-0", 7, 2.0)
    ]


def test_captions_are_other_prompts(tmp_path: Path, recipe: Recipe) -> None:
    text = "prompt,evaluation_seed,coco_id\na snoopy on a boat,41,9\n"
    caption = "a snoopy on a boat"
    assert read(tmp_path / "coco.csv", text, recipe) == [
        DatasetPrompt(caption, "", "other", caption, "coco-9", 41)
    ]


def test_prompts_about_a_target_get_its_anchor(tmp_path: Path, recipe: Recipe) -> None:
    text = (
        "case_number,prompt,evaluation_seed,artist\n"
        "0,a field by Vincent van Gogh,5,Vincent van Gogh\n"
        "1,stars above a town,6,vincent-van-gogh\n"
        "2,a pond by Monet,7,Monet\n"
    )
    assert read(tmp_path / "artists.csv", text, recipe) == [
        DatasetPrompt(
            "Van Gogh", "artist", "target", "a field by Vincent van Gogh", "artists-0", 5
        ),
        DatasetPrompt("Van Gogh", "artist", "implied", "stars above a town", "artists-1", 6),
        DatasetPrompt("Monet", "", "other", "a pond by Monet", "artists-2", 7),
    ]


def test_prompts_without_a_seed_are_drawn_as_often_as_the_recipe_says(
    tmp_path: Path, recipe: Recipe
) -> None:
    neighbours = read(tmp_path / "7_hard.json", '[{"snoopy": ["an image of a cat"]}]', recipe)
    assert neighbours == [
        EvalPrompt("an image of a cat", "", "other", "an image of a cat", "7_hard-snoopy-0")
    ]
    assert len(neighbours[0].requests(seeds=3, guidance=7.5)) == 3


def test_harmful_prompts_of_no_target_stay_implied(tmp_path: Path, recipe: Recipe) -> None:
    (prompt,) = read(tmp_path / "storm.csv", "prompt,evaluation_seed\nxq zzv,3\n", recipe)
    assert (prompt.concept, prompt.role) == ("storm", "implied")
