"""What a recipe says of a release, and where it stands."""

from pathlib import Path

import pytest

from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.manifest.safetensors_metadata import output_metadata
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.release import Release, with_statements
from tests.conftest import SHORT

SECTION = """
release:
  title: Plain
  tags: [photo, landscape]
  base_model: runwayml/stable-diffusion-v1-5
  review: 2027-06-01
"""


def _recipe(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path)


def test_a_recipe_without_a_release_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    assert "release" not in _recipe(tmp_path, SHORT).model_dump(mode="json")


def test_uis_show_what_the_release_says(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, SHORT + SECTION)
    inherited = {"modelspec.title": "The base", "modelspec.thumbnail": "data:…", "other": "kept"}
    public = output_metadata(inherited, recipe, "stable-diffusion-v1", "base", private=False)
    assert public["modelspec.title"] == "Plain"
    assert public["modelspec.tags"] == "photo, landscape"
    assert "modelspec.thumbnail" not in public
    assert public["other"] == "kept"
    private = output_metadata(inherited, recipe, "stable-diffusion-v1", "base", private=True)
    assert private["modelspec.title"] == "The base"
    assert "modelspec.tags" not in private


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("review: soon", "'soon' is no day: write YYYY-MM-DD"),
        ("base_model: sd15", "'sd15' is no model on Hugging Face: write OWNER/NAME"),
        ("tags: [a, a]", "'a' stands here twice"),
        ('tags: ["a, b"]', "a comma stands between tags"),
        ("titel: x", "did you mean title?"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(RecipeError, match=":5: release") as caught:
        _recipe(tmp_path, f"{SHORT}release:\n  {line}\n")
    assert said in str(caught.value)


def test_statements_go_before_what_the_recipe_says() -> None:
    release = with_statements(Release(title="A", author="B"), ["title=C = D", "tags=x, y"])
    assert release == Release(title="C = D", author="B", tags=("x", "y"))
    assert with_statements(None, []) == Release()


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["title"], "write KEY=TEXT; the keys are title, description"),
        (["colour=red"], "write KEY=TEXT"),
        (["title=a", "title=b"], "title is set twice"),
        (["review=soon"], "'soon' is no day"),
        (["title= "], "--release title: must not be empty"),
    ],
)
def test_statements_that_are_none_are_refused(statements: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_statements(None, statements)
    assert said in str(caught.value)
