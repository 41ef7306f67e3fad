"""Recipes by name: which file a name means, and what the shipped library holds to."""

import re
import tomllib
from pathlib import Path

import pytest

from erasepro_convert.cli import group
from erasepro_convert.errors import UsageError
from erasepro_convert.library import (
    SHIPPED_FOLDERS,
    find_all,
    recipe_files,
    recipe_names,
    shipped_root,
)
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.default_prompts import CALIBRATION_PROMPTS, DRIFT_PROMPTS
from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_line
from tools import recipe_page

LIBRARY = find_all()
TEXT = "version: 1\nconcepts: [{target: a heron, anchor: bird}]\n"


@pytest.fixture(scope="module")
def recipes() -> dict[str, Recipe]:
    return {name: load_recipe(one.file) for name, one in LIBRARY.items()}


class TestNames:
    def test_a_name_is_a_file_of_the_library(self) -> None:
        assert recipe_files("van-gogh") == (shipped_root() / "artists" / "van-gogh.yaml",)
        assert recipe_files(Path("nudity"))[0].parts[-2:] == ("safety", "nudity.yaml")

    def test_several_are_separated_by_commas_and_count_once(self, here: Path) -> None:
        Path("own.yaml").write_text(TEXT, encoding="utf-8")
        files = recipe_files("nudity, own.yaml,nudity")
        assert [file.name for file in files] == ["nudity.yaml", "own.yaml"]

    def test_a_file_comes_before_a_name_and_before_a_list(self, here: Path) -> None:
        for name in ("nudity", "nudity,snoopy"):
            Path(name).write_text(TEXT, encoding="utf-8")
            assert recipe_files(name) == (Path(name),)

    def test_a_folder_hides_no_name(self, here: Path) -> None:
        Path("nudity").mkdir()
        assert recipe_files("nudity")[0].parent.name == "safety"

    def test_paths_are_left_to_those_who_read_them(self) -> None:
        for path in ("no/such", "such.yaml", "./nudity"):
            assert recipe_files(path) == (Path(path),)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ("vangogh", "'vangogh' is neither a file nor the name of a recipe; did you mean van-g"),
            ("nudity,Snopy", "'Snopy' is neither a file nor .* did you mean snoopy"),
            ("qqqq", "erasepro-convert recipes lists all"),
            ("nudity,", "a recipe is missing before or behind a comma"),
            (",", "a recipe is missing before or behind a comma"),
        ],
    )
    def test_a_name_that_nothing_has(self, given: str, told: str) -> None:
        with pytest.raises(UsageError, match=told):
            recipe_files(given)


class TestOwnFolders:
    def test_what_comes_first_wins(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = here / "config" / "erasepro-convert" / "recipes"
        first, second = here / "first", here / "second"
        for folder in (config, first, second / "birds"):
            folder.mkdir(parents=True)
            (folder / "heron.yaml").write_text(TEXT, encoding="utf-8")
        (config / "nudity.yml").write_text(TEXT, encoding="utf-8")
        (second / "heron.txt").write_text("no recipe", encoding="utf-8")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "config"))
        assert recipe_files("heron") == (config / "heron.yaml",)
        assert recipe_files("nudity") == (config / "nudity.yml",)
        monkeypatch.setenv("ERASEPRO_RECIPES", str(second))
        assert recipe_files("heron") == (second / "birds" / "heron.yaml",)
        monkeypatch.setenv("ERASEPRO_RECIPES", f"{first}:{second}")
        assert recipe_files("heron") == (first / "heron.yaml",)
        assert len(recipe_names()) == len(LIBRARY) + 1

    def test_a_folder_that_is_not_there_is_told(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ERASEPRO_RECIPES", str(here / "typo"))
        with pytest.raises(UsageError, match=r"ERASEPRO_RECIPES names .*typo, which is no folder"):
            recipe_names()

    def test_two_of_one_name_in_one_folder_are_told(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("heron.yaml", "heron.yml"):
            Path(name).write_text(TEXT, encoding="utf-8")
        monkeypatch.setenv("ERASEPRO_RECIPES", ".")
        with pytest.raises(UsageError, match=r"heron.yaml and heron.yml: two recipes"):
            recipe_names()


class TestLibrary:
    def test_it_is_worth_having(self) -> None:
        by_folder = {
            f: [o.name for o in LIBRARY.values() if o.folder == f] for f in SHIPPED_FOLDERS
        }
        needed = {"nudity", "gore", "self-harm", "hate-symbols", "drugs", "weapons"}
        assert needed <= set(by_folder["safety"])
        assert len(by_folder["artists"]) >= 20
        assert len(by_folder["characters"]) >= 20
        assert len(by_folder["logos"]) >= 5

    def test_no_recipe_is_called_as_a_command(self) -> None:
        assert not set(LIBRARY) & set(group.commands)

    @pytest.mark.slow
    def test_each_loads_and_is_called_as_its_file(self, recipes: dict[str, Recipe]) -> None:
        for name, recipe in recipes.items():
            assert recipe.name == name
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)

    @pytest.mark.slow
    def test_each_says_in_a_line_what_it_is_for(self, recipes: dict[str, Recipe]) -> None:
        """A line of the list has 80 columns, and two of them between name and description."""
        widest = max(map(len, recipes))
        for recipe in recipes.values():
            assert recipe.about, recipe.name
            assert len(recipe.about) <= 80 - widest - 4, recipe.name

    @pytest.mark.slow
    def test_none_has_a_target_that_stands_in_prompts_to_measure_on(
        self, recipes: dict[str, Recipe]
    ) -> None:
        for recipe in recipes.values():
            for prompts in (DRIFT_PROMPTS, CALIBRATION_PROMPTS):
                assert recipe.without_targets(prompts) == prompts, recipe.name

    @pytest.mark.slow
    def test_anchors_are_harmless(self, recipes: dict[str, Recipe]) -> None:
        """No anchor has a target of any recipe in it, so that two recipes undo nothing."""
        targets = {c.target.lower() for recipe in recipes.values() for c in recipe.concepts}
        for recipe in recipes.values():
            for concept in recipe.concepts:
                words = concept.anchor.lower()
                assert words, recipe.name
                found = [t for t in targets if re.search(rf"(?<!\w){re.escape(t)}(?!\w)", words)]
                assert not found, (recipe.name, concept.target, found)

    @pytest.mark.slow
    def test_all_of_a_folder_go_together(self, recipes: dict[str, Recipe]) -> None:
        safety = [name for name, one in LIBRARY.items() if one.folder == "safety"]
        together = load_recipe(",".join(safety))
        assert len(together.concepts) == sum(len(recipes[name].concepts) for name in safety)

    def test_each_begins_with_the_line_that_editors_read(self) -> None:
        for file in Path("recipes").rglob("*.yaml"):
            assert file.read_text("utf-8").startswith(schema_line(f"../{SCHEMA_FILE}")), file
            assert (file.parent / ".." / SCHEMA_FILE).exists()

    @pytest.mark.slow
    def test_the_page_lists_it(self) -> None:
        page = recipe_page.PAGE.read_text("utf-8")
        assert recipe_page.filled(page) == page
        assert all(f"| `{name}` |" in page for name in LIBRARY)

    def test_a_wheel_has_it(self) -> None:
        project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
        included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        assert included == {
            f"recipes/{name}": f"erasepro_convert/recipes/{name}"
            for name in (*SHIPPED_FOLDERS, SCHEMA_FILE)
        }
