"""Recipes on the command line: by name, as words, listed, checked and newly written."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasepro_convert.cli import group
from erasepro_convert.errors import RecipeError
from erasepro_convert.library import recipe_names
from erasepro_convert.manifest import read_manifest
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.parse import parse_recipe
from erasepro_convert.recipe.schema import schema_json, schema_line
from erasepro_convert.recipe.template import commented_recipe_text
from erasepro_convert.recipe.yaml_document import parse_document
from tests.conftest import SHORT, Cli, copy_of_demo

WORDS = ("--target", "snoopy", "--anchor", "dog")


def answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in answers)))


class TestEveryCommand:
    @pytest.mark.slow
    def test_a_name_and_words_convert_and_are_measured(self, cli: Cli, here: Path) -> None:
        copy_of_demo(here)
        ran = cli("snoopy", "in.safetensors", "named.safetensors", "--quiet")
        assert (ran.code, ran.err) == (0, "")
        named = read_manifest(Path("named.manifest.json"))
        assert named.recipe_sha256 == load_recipe("snoopy").digest
        ran = cli(*WORDS, "in.safetensors", "said.safetensors", "--quiet")
        assert (ran.code, ran.err) == (0, "")
        said = read_manifest(Path("said.manifest.json")).recipe
        assert (said.name, [c.target for c in said.concepts]) == ("snoopy", ["snoopy"])
        for recipe, erased in ((["snoopy"], "named"), (WORDS, "said")):
            ran = cli("probe", *recipe, f"{erased}.safetensors", "--base", "in.safetensors")
            assert (ran.code, ran.err) == (0, "")
            assert "leak of snoopy" in ran.out
        drawn = ("preview", "said.safetensors", "--base", "in.safetensors", "--steps", 1)
        assert cli(*drawn, "--seeds", 1, *WORDS).code == 0
        assert cli(*drawn, "--seeds", 1, "--recipe", "snoopy", "--force").code == 0
        assert cli(*drawn).code == 2

    @pytest.mark.slow
    def test_a_batch_takes_names_and_job_files_do(self, cli: Cli, here: Path) -> None:
        copy_of_demo(here)
        Path("own.yaml").write_text("version: 1\nconcepts: [{target: kite, anchor: a sail}]\n")
        jobs = "version: 1\njobs: [{recipe: 'snoopy,own.yaml', input: in.safetensors}]\n"
        Path("below").mkdir()
        for name in ("own.yaml", "in.safetensors"):
            Path(name).rename(f"below/{name}")
        Path("below/jobs.yaml").write_text(jobs)
        ran = cli("batch", "snoopy", "below/in.safetensors", "below/jobs.yaml", "--out", "out")
        assert (ran.code, ran.err) == (0, "")
        made = {path.name for path in Path("out").glob("*.safetensors")}
        assert made == {"in-snoopy.safetensors", "in-snoopy+own.safetensors"}

    @pytest.mark.parametrize("command", ["probe", "evaluate", "stress", "compare"])
    def test_an_unknown_name_is_told_with_the_nearest(
        self, cli: Cli, here: Path, command: str
    ) -> None:
        copy_of_demo(here)
        base = () if command == "compare" else ("--base", "in.safetensors")
        ran = cli(command, "snopy", "in.safetensors", *base)
        assert ran.code == 2
        assert "'snopy' is neither a file nor the name of a recipe; did you mean snoopy" in ran.err
        ran = cli(command, "--target", "a", "in.safetensors", *base)
        assert ran.code == 2
        assert "--target needs --anchor" in ran.err

    def test_what_was_read_is_never_replaced(self, cli: Cli, here: Path) -> None:
        """Each file of several is guarded, here as the manifest of the output."""
        copy_of_demo(here)
        Path("out.manifest.json").write_text(SHORT, encoding="utf-8")
        ran = cli("snoopy,out.manifest.json", "in.safetensors", "out.safetensors", "--force")
        assert ran.code == 2
        assert "this would replace out.manifest.json, which is read" in ran.err

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            ((*WORDS, "in.ckpt"), "Missing argument 'IN'"),
            ((*WORDS, "nudity", "in.ckpt", "out.safetensors"), "leave out one of the two"),
            (("nudity", "dali", "in.ckpt", "out.safetensors"), "join several recipes with commas"),
            (("--anchor", "a", "in.ckpt", "out.safetensors"), "--target is missing"),
            (("batch", "nudty", "--out", "out"), "did you mean nudity"),
            (("batch", "*nudity*", "x.yaml", "--out", "out"), "x.yaml: there is no such file"),
            (("probe", *WORDS), "Missing argument"),
            (("probe", "nudity"), "Missing argument 'CKPT...'"),
        ],
    )
    def test_mistakes_are_told(
        self, cli: Cli, here: Path, args: tuple[str, ...], told: str
    ) -> None:
        ran = cli(*args)
        assert ran.code == 2
        assert told in ran.err

    def test_words_may_be_those_of_a_command(self, cli: Cli, here: Path) -> None:
        ran = cli("--target", "demo", "--anchor", "inspect", "in.ckpt", "out.safetensors")
        assert (ran.code, ran.err) == (2, "error: in.ckpt: there is no such file\n")

    def test_a_recipe_named_like_a_command_is_reached_through_convert(
        self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("probe.yaml").write_text(SHORT + "no: 1", encoding="utf-8")
        monkeypatch.setenv("ERASEPRO_RECIPES", ".")
        ran = cli("convert", "probe", "in.ckpt", "out.safetensors")
        assert ran.err.startswith("error: probe.yaml:4: no: unknown key; known are version,")


class TestList:
    def test_every_recipe_is_listed_below_its_folder(self, cli: Cli) -> None:
        ran = cli("recipes")
        assert (ran.code, ran.err) == (0, "")
        lines = [line.split()[0] for line in ran.out.splitlines() if line.startswith(" ")]
        assert sorted(lines) == recipe_names()
        headings = [line for line in ran.out.splitlines() if line and not line.startswith(" ")]
        assert headings == ["safety", "artists", "characters", "logos"]
        assert max(map(len, ran.out.splitlines())) <= 80

    @pytest.mark.parametrize(
        ("word", "found"),
        [("MICKEY", "mickey-mouse"), ("starry", "van-gogh"), ("Peanuts", "snoopy")],
    )
    def test_a_search_looks_in_names_descriptions_and_targets(
        self, cli: Cli, word: str, found: str
    ) -> None:
        ran = cli("recipes", "search", word, "--json")
        assert found in [record["name"] for record in json.loads(ran.out)]
        assert found in cli("recipes", "search", word).out

    def test_a_search_that_finds_nothing(self, cli: Cli) -> None:
        ran = cli("recipes", "search", "qqqq")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("error: no recipe has 'qqqq' in it; --target qqqq --anchor")

    def test_a_recipe_is_shown_to_be_copied(self, cli: Cli) -> None:
        """Without the line for editors: the schema lies elsewhere as seen from a copy."""
        editors, _, rest = Path("recipes/artists/monet.yaml").read_text("utf-8").partition("\n")
        assert editors.startswith("# yaml-language-server")
        assert cli("recipes", "show", "monet").out == rest
        assert cli("recipes", "show", "monett").code == 2

    def test_scripts_learn_where_each_comes_from(
        self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("nudity.yaml").write_text(SHORT + "about: mine", encoding="utf-8")
        monkeypatch.setenv("ERASEPRO_RECIPES", ".")
        records = {record["name"]: record for record in json.loads(cli("recipes", "--json").out)}
        assert records["nudity"] == {
            "name": "nudity", "folder": "", "about": "mine", "targets": ["Van Gogh"], "from": ".",
        }  # fmt: skip
        assert records["gore"]["from"] == "shipped"
        assert records["gore"]["folder"] == "safety"

    def test_broken_and_hostile_recipes_do_no_harm_to_the_list(
        self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, text in {
            "broken": "version: [1",
            "jobs": "version: 1\njobs: []",
            "odd": "concepts: [3, {target: [a]}]\nabout: {a: b}",
            "markup": 'about: "[red]a\\e[31mb\\nc[/]"\nconcepts: []',
        }.items():
            Path(f"{name}.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("ERASEPRO_RECIPES", ".")
        ran = cli("recipes")
        assert (ran.code, ran.err) == (0, "")
        assert "cannot be read: broken.yaml:2: not valid YAML" in ran.out
        assert "has no concepts: erasepro-convert check jobs" in ran.out
        assert "[red]a\\x1b[31mb\\nc[/]" in ran.out


class TestCheck:
    def test_it_says_what_would_be_erased(self, cli: Cli) -> None:
        ran = cli("check", "van-gogh", "recipes/paper/nudity-implicit-w.yaml")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.splitlines() == [
            "van-gogh: 4 concepts (Vincent van Gogh, painter of swirling skies and sunflowers)",
            "  Van Gogh, Vincent van Gogh, starry night, sunflowers painting → artist",
            "  by ErasePro (Algorithm 1), in 12 text-encoder layers and 7 U-Net blocks",
            "  must keep to: leak 0.5, drift 0.3",
            "recipes/paper/nudity-implicit-w.yaml: 1 concept",
            "  nudity → nothing",
            "  by ErasePro-modified (Algorithm 2), in 8 text-encoder layers and 7 U-Net blocks",
            "  must keep to: no limit",
        ]

    def test_only_what_is_edited_is_counted(self, cli: Cli, here: Path) -> None:
        Path("a.yaml").write_text(SHORT + "method: uce\nlayers: {unet: mid}", encoding="utf-8")
        assert "by Unified Concept Editing, in 1 U-Net block\n" in cli("check", "a.yaml").out

    def test_it_prints_all_defaults(self, cli: Cli) -> None:
        records = json.loads(cli("check", "nudity,gore", "--json").out)
        assert records["nudity,gore"] == load_recipe("nudity,gore").model_dump(mode="json")

    def test_it_lists_the_mistakes_of_all(self, cli: Cli, here: Path) -> None:
        Path("a.yaml").write_text(SHORT + "metod: uce\nstrength: x", encoding="utf-8")
        ran = cli("check", "a.yaml", "nudity", "nudty")
        assert ran.code == 2
        assert "nudity: 10 concepts" in ran.out
        assert ran.err.splitlines() == [
            "error: a.yaml:4: metod: unknown key; did you mean method?",
            "a.yaml:5: strength: should be a number, not 'x'",
            "'nudty' is neither a file nor the name of a recipe; did you mean nudity?",
        ]


class TestNew:
    def test_answers_become_a_recipe(
        self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer(monkeypatch, "Jane Doe", "artist", "J. Doe,  , 5e-5", "", "A painter: # of mine")
        ran = cli("new")
        assert (ran.code, ran.err) == (0, "")
        assert "wrote jane-doe.yaml" in ran.out
        assert "suggest" in ran.out
        recipe = load_recipe("jane-doe.yaml")
        assert (recipe.name, recipe.about) == ("jane-doe", "A painter: # of mine")
        assert [concept.target for concept in recipe.concepts] == ["Jane Doe", "J. Doe", "5e-5"]
        assert {concept.anchor for concept in recipe.concepts} == {"artist"}
        text = Path("jane-doe.yaml").read_text("utf-8")
        assert text.startswith(schema_line("recipe.schema.json"))
        assert Path("recipe.schema.json").read_text("utf-8") == schema_json()

    def test_with_target_and_anchor_nothing_is_asked(self, cli: Cli, here: Path) -> None:
        assert cli("new", "mine.yaml", "--target", "Jane Doe", "--anchor", "").code == 0
        recipe = load_recipe("mine.yaml")
        assert (recipe.name, recipe.about, recipe.concepts[0].anchor) == ("mine", "", "")

    def test_nothing_is_replaced(self, cli: Cli, here: Path) -> None:
        Path("mine.yaml").write_text("precious")
        Path("recipe.schema.json").write_text("precious")
        words = ("--target", "Jane Doe", "--anchor", "artist")
        ran = cli("new", "mine.yaml", *words)
        assert (ran.code, ran.err) == (2, "error: mine.yaml: exists already; --force replaces it\n")
        assert Path("mine.yaml").read_text() == "precious"
        assert cli("new", "mine.yaml", *words, "--force").code == 0
        assert load_recipe("mine.yaml").concepts[0].target == "Jane Doe"
        assert Path("recipe.schema.json").read_text() == "precious"

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            (("r.txt", "--target", "a", "--anchor", "b"), "r.txt: a recipe's name ends in .yaml"),
            (("r.yaml", "--target", "a", "--anchor", "A"), "are the same to the model"),
            (("r.yaml", "--target", "a\u200bb", "--anchor", "c"), "invisible zero width space"),
            (("no/r.yaml", "--target", "a", "--anchor", "b"), "its folder does not exist"),
            (("r.yaml", "--target", "a", "--anchor", "b", "--about", "c\nd"), "should be one line"),
        ],
    )
    def test_what_is_refused_is_not_written(
        self, cli: Cli, here: Path, args: tuple[str, ...], told: str
    ) -> None:
        ran = cli("new", *args)
        assert ran.code == 2
        assert told in ran.err
        assert not list(here.iterdir())

    def test_an_interrupted_dialogue_writes_nothing(
        self, cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer(monkeypatch, "Jane Doe")
        assert cli("new").code == 130
        assert not list(here.iterdir())

    @given(text=st.text(), other=st.text())
    @settings(
        deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_no_text_becomes_anything_but_itself(self, text: str, other: str) -> None:
        place = Path("r.yaml")
        try:
            written = commented_recipe_text(text, other, ["a heron", text], "a bird")
            recipe = parse_recipe(parse_document(written, place), place)
        except RecipeError:
            return  # refused in words
        assert recipe.name.strip() == text.strip()
        assert recipe.about.strip() == other.strip()
        assert recipe.concepts[1].target == recipe.name
        assert len(recipe.concepts) == 2


def test_the_help_says_how_to_do_without_a_recipe(cli: Cli) -> None:
    assert "   or: erasepro-convert [OPTIONS] --target WORDS --anchor WORDS IN OUT" in cli("-h").out
    assert group.commands.keys() >= {"recipes", "check", "new"}
