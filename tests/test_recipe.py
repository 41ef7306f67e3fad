"""Recipes: what they mean, and one clear message with file and line for each mistake."""

from collections.abc import Callable
from pathlib import Path

import pytest

from erasepro_convert.errors import RecipeError
from erasepro_convert.layout.keys import UNET_BLOCKS
from erasepro_convert.recipe import Recipe, load_recipe
from tests.conftest import VAN_GOGH, Cli

MakeRecipe = Callable[[str], Recipe]
SHIPPED = sorted(Path("recipes").rglob("*.yaml"))


def test_defaults_are_filled_in(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("version: 1\nconcepts: [{target: a cat, anchor: a dog}]")
    assert recipe.name == "recipe"
    assert recipe.method == "erasepro"
    assert recipe.concepts[0].prompts == ("{}",)
    assert recipe.layers.text_encoder == tuple(range(1, 13))
    assert recipe.layers.unet == UNET_BLOCKS
    assert (recipe.tokens, recipe.pairing, recipe.clip_skip) == ("prompt", "word", (1,))


def test_uce_edits_the_cross_attention_only(make_recipe: MakeRecipe) -> None:
    assert make_recipe(VAN_GOGH + "method: uce").layers.text_encoder == ()
    assert make_recipe(VAN_GOGH + "method: uce\nlayers: {unet: mid}").layers.unet == ("mid",)


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        ("3", (3,)),
        ("2-4", (2, 3, 4)),
        ("[9, 1-2, 2]", (1, 2, 9)),
        ("none", ()),
        ("'5 - 6'", (5, 6)),
    ],
)
def test_layer_ranges(make_recipe: MakeRecipe, written: str, layers: tuple[int, ...]) -> None:
    recipe = make_recipe(VAN_GOGH + f"layers: {{text_encoder: {written}}}")
    assert recipe.layers.text_encoder == layers


@pytest.mark.parametrize(
    ("written", "blocks"),
    [
        ("mid", ("mid",)),
        ("[up.2-3, down.0]", ("down.0", "up.2", "up.3")),
        ("all", UNET_BLOCKS),
        ("none", ()),
    ],
)
def test_block_ranges(make_recipe: MakeRecipe, written: str, blocks: tuple[str, ...]) -> None:
    assert make_recipe(VAN_GOGH + f"layers: {{unet: {written}}}").layers.unet == blocks


def test_the_digest_depends_on_meaning_alone(make_recipe: MakeRecipe) -> None:
    """Spelling out a default changes nothing; changing a value does."""
    plain = make_recipe(VAN_GOGH)
    assert make_recipe(VAN_GOGH + "# a remark\npairing: word\nlayers: {text_encoder: all}") == plain
    assert make_recipe(VAN_GOGH + "pairing: word").digest == plain.digest
    assert make_recipe(VAN_GOGH + "pairing: position").digest != plain.digest


def test_a_recipe_cannot_be_changed(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_recipe(VAN_GOGH).name = "other"


def test_every_shipped_recipe_loads_and_says_what_it_does() -> None:
    assert len(SHIPPED) >= 15
    for path in SHIPPED:
        load_recipe(path)
        opening = path.read_text(encoding="utf-8").partition("version:")[0]
        assert opening.startswith("#"), path
        if "paper" in path.parts:
            assert "§" in opening or "App." in opening, path


BAD = {
    "over-long prompt": (
        "version: 1\nconcepts:\n  - {target: a, anchor: b, prompts: ['{} " + "cat " * 80 + "']}",
        3,
        "83 tokens, 77 is the most",
    ),
    "over-long anchor": (
        "version: 1\nconcepts:\n  - {target: a, anchor: " + "cat " * 76 + "}",
        3,
        "78 tokens, 77 is the most",
    ),
    "control token": (
        "version: 1\nconcepts: [{target: a <|endoftext|>, anchor: b}]",
        2,
        "control tokens",
    ),
    # what is wrong: (the recipe, the line, what the message must say)
    "unknown key": (VAN_GOGH + "metod: uce", 4, "metod: unknown key; did you mean method?"),
    "key of a later version": (VAN_GOGH + "tolerance: 0.1", 4, "tolerance: unknown key"),
    "unknown key of a concept": (
        "version: 1\nconcepts:\n  - target: a\n    achor: b",
        4,
        "concepts[0].achor: unknown key; did you mean anchor?",
    ),
    "missing anchor": ("version: 1\nconcepts:\n  - target: a", 3, "anchor is missing"),
    "no version": ("concepts: [{target: a, anchor: b}]", 1, "version is missing"),
    "version of the future": ("version: 2\nconcepts: [{target: a, anchor: b}]", 1, "should be 1"),
    "no concepts": ("version: 1\nconcepts: []", 2, "concepts: must not be empty"),
    "wrong type": ("version: 1\nconcepts: cats", 2, "concepts: "),
    "number for text": (
        "version: 1\nconcepts: [{target: 5, anchor: b}]",
        2,
        "should be text, not 5; quote it",
    ),
    "nothing for text": (
        "version: 1\nconcepts: [{target: a, anchor: }]",
        2,
        'write "" if you mean no words',
    ),
    "empty target": ("version: 1\nconcepts: [{target: ' ', anchor: b}]", 2, "must not be empty"),
    "target equal to anchor": (
        "version: 1\nconcepts:\n  - {target: A  Cat, anchor: a cat}",
        3,
        "the same to the model",
    ),
    "duplicate pair": (
        "version: 1\nconcepts: [{target: a, anchor: b}, {target: A, anchor: B}]",
        2,
        "stands here twice",
    ),
    "prompt without {}": (
        "version: 1\nconcepts:\n  - target: a\n    anchor: b\n    prompts: ['{}', 'a photo']",
        5,
        "must contain {} once",
    ),
    "prompt with two {}": (
        "version: 1\nconcepts: [{target: a, anchor: b, prompts: ['{} {}']}]",
        2,
        "must contain {} once",
    ),
    "same prompt twice": (
        "version: 1\nconcepts: [{target: a, anchor: b, prompts: ['{}', '{}']}]",
        2,
        "stands here twice",
    ),
    "no prompts": (
        "version: 1\nconcepts: [{target: a, anchor: b, prompts: []}]",
        2,
        "not be empty",
    ),
    "unknown method": (VAN_GOGH + "method: esd", 4, "method: input should be 'erasepro'"),
    "layers out of range": (VAN_GOGH + "layers: {text_encoder: 1-13}", 4, "out of range"),
    "layer zero": (VAN_GOGH + "layers: {text_encoder: 0}", 4, "out of range"),
    "layers reversed": (VAN_GOGH + "layers: {text_encoder: 9-3}", 4, "write 3-9"),
    "not a layer": (VAN_GOGH + "layers: {text_encoder: first}", 4, "is not a layer"),
    "a truth value as layer": (VAN_GOGH + "layers: {text_encoder: true}", 4, "is not a layer"),
    "empty list of layers": (VAN_GOGH + "layers: {text_encoder: []}", 4, "write none"),
    "unknown block": (VAN_GOGH + "layers: {unet: up.0}", 4, "no U-Net block"),
    "blocks reversed": (VAN_GOGH + "layers: {unet: up.3-1}", 4, "write up.1-3"),
    "nothing to edit": (
        VAN_GOGH + "layers: {text_encoder: none, unet: none}",
        4,
        "nothing would be edited",
    ),
    "uce on the text encoder": (
        VAN_GOGH + "method: uce\nlayers: {text_encoder: 1-12}",
        5,
        "uce edits the cross-attention only",
    ),
    "unknown tokens": (VAN_GOGH + "tokens: some", 4, "tokens: "),
    "tokens out of range": (VAN_GOGH + "tokens: {first: 78}", 4, "tokens.first: "),
    "unknown pairing": (VAN_GOGH + "pairing: words", 4, "pairing: "),
    "clip_skip out of range": (VAN_GOGH + "clip_skip: [0]", 4, "clip_skip[0]: "),
    "clip_skip twice": (VAN_GOGH + "clip_skip: [2, 2]", 4, "stands here twice"),
    "key twice": (VAN_GOGH + "version: 1", 4, "version stands here twice"),
    "key that is a list": ("version: 1\n? [a]\n: b", 2, "a key must be a word"),
    "alias": ("version: &v 1\nname: *v", 1, "anchors and aliases"),
    "tag": ("version: !!python/object/apply:os.getcwd []", 1, "tags such as"),
    "two documents": (VAN_GOGH + "--- 1", 4, "another document"),
    "tab": ("version: 1\n\tname: x", 2, "tab"),
    "unclosed bracket": ("version: 1\nconcepts: [\n", 3, "not valid YAML"),
    "control character": ("version: 1\nname: \x01", 2, "not valid YAML"),
    "deep nesting": ("version: 1\nconcepts: " + "[" * 50, 2, "nested more than"),
    "very deep nesting": ("version: 1\nconcepts: " + "[" * 100_000, 2, "nest"),
}


def refused(cli: Cli, recipe: Path) -> str:
    """The message of a run that stops at its recipe."""
    ran = cli(recipe, "in.safetensors", "out.safetensors")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    return ran.err


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes_are_refused_with_the_line(cli: Cli, tmp_path: Path, case: str) -> None:
    text, line, message = BAD[case]
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    refusal = refused(cli, path)
    assert f"{path}:{line}: " in refusal
    assert message in refusal


def bomb() -> bytes:
    lines = ["a: &a [x, x]"]
    lines += [f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version: \xff", "bad.yaml:1: is not UTF-8 text"),
        (b"", "is empty"),
        (b"# nothing but a remark\n", "is empty"),
        (b"just words", "a recipe is a mapping"),
        (b"x" * 10_000_000, "has 10000000 bytes; a recipe may have"),
        (bomb(), "anchors and aliases"),
    ],
)
def test_files_that_are_no_recipes(cli: Cli, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert message in refused(cli, path)


def test_a_directory_and_a_missing_file_are_no_recipes(cli: Cli, tmp_path: Path) -> None:
    assert "must be a regular file" in refused(cli, tmp_path)
    assert "No such file" in refused(cli, tmp_path / "none.yaml")


def test_all_mistakes_are_reported_at_once_in_order(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe("version: 1\nconcepts: [{target: 5, anchor: b}]\nmetod: x\npairing: y")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4"]
