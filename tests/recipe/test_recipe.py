"""Recipes: what they mean, and one clear message with file and line for each mistake."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.evaluate.image_store import Settings
from erasepro_convert.evaluate.settings import resolve_settings
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.default_prompts import (
    CALIBRATION_PROMPTS,
    CALIBRATION_TEMPLATES,
    DRIFT_PROMPTS,
    PROBE_TEMPLATES,
    RETAIN_PROMPTS,
    TEMPLATES,
)
from erasepro_convert.recipe.sections import Retain
from erasepro_convert.sd1.architecture import ARCHITECTURES
from erasepro_convert.sd1.keys import UNET_BLOCKS
from tests.conftest import SHORT, Cli, WriteRecipe

MakeRecipe = Callable[[str], Recipe]
SHIPPED = sorted(Path("recipes").rglob("*.yaml"))


def test_defaults_are_filled_in(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("version: 1\nconcepts: [{target: a cat, anchor: a dog}]")
    assert recipe.name == "recipe"
    assert recipe.method == "erasepro"
    assert recipe.concepts[0].prompts == TEMPLATES
    assert (recipe.strength, recipe.tolerance, recipe.retain.weight) == (1, None, 1)
    assert recipe.text_encoders == ("edited", "stock")
    assert recipe.layers.text_encoder == tuple(range(1, 13))
    assert recipe.layers.unet == UNET_BLOCKS
    assert (recipe.tokens, recipe.pairing, recipe.clip_skip) == ("padded", "word", (1,))


@pytest.mark.parametrize("method", ["uce", "null-space"])
def test_uce_and_its_kin_edit_the_cross_attention_only(
    make_recipe: MakeRecipe, method: str
) -> None:
    assert make_recipe(SHORT + f"method: {method}").layers.text_encoder == ()
    assert make_recipe(SHORT + f"method: {method}\nlayers: {{unet: mid}}").layers.unet == ("mid",)


def test_the_null_space_is_that_of_the_retained_prompts(make_recipe: MakeRecipe) -> None:
    assert make_recipe(SHORT + "method: null-space").retain == Retain(weight=10)
    assert make_recipe(SHORT + "method: null-space\nretain: {weight: 3}").retain.weight == 3
    assert make_recipe(SHORT + "method: uce").retain.weight == 0


def test_methods_of_other_papers_take_the_bare_name_where_theirs_do(
    make_recipe: MakeRecipe,
) -> None:
    text = (
        "version: 1\nconcepts: [{{target: a, anchor: b}}, {{target: c, anchor: d{}}}]\nmethod: oce"
    )
    for prompts, expected in (("", ("{}",)), (", prompts: ['my {}', '{}']", ("my {}", "{}"))):
        recipe = make_recipe(text.format(prompts))
        assert [c.prompts for c in recipe.concepts] == [("{}",), expected]
        assert recipe.tokens == "last"


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
    recipe = make_recipe(SHORT + f"layers: {{text_encoder: {written}}}")
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
    assert make_recipe(SHORT + f"layers: {{unet: {written}}}").layers.unet == blocks


def test_the_digest_depends_on_meaning_alone(make_recipe: MakeRecipe) -> None:
    """Spelling out a default changes nothing; changing a value does."""
    plain = make_recipe(SHORT)
    assert make_recipe(SHORT + "# a remark\npairing: word\nlayers: {text_encoder: all}") == plain
    assert make_recipe(SHORT + "pairing: word").digest == plain.digest
    assert make_recipe(SHORT + "pairing: position").digest != plain.digest


def test_the_shipped_prompts_share_nothing() -> None:
    """A recipe with other templates or retained prompts of its own is checked when it loads."""
    parts = (
        *(TEMPLATES, PROBE_TEMPLATES, CALIBRATION_TEMPLATES),
        *(RETAIN_PROMPTS, DRIFT_PROMPTS, CALIBRATION_PROMPTS),
    )
    sets = [set(part) for part in parts]
    assert len(set().union(*sets)) == sum(map(len, sets))
    assert [len(part) for part in sets] == [8, 8, 6, 48, 24, 30]


def test_calibration_leaves_out_what_is_solved_retained_or_probed(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        SHORT
        + "calibration: {prompts: ['{}', 'my {}', '{} here'], others: [a cat, a dog, a hut]}\n"
        "retain: {prompts: [A cat]}\nprobe: {prompts: ['My {}'], others: [a dog]}"
    )
    assert recipe.calibration_templates(recipe.concepts[0]) == ("{} here",)
    assert recipe.calibration_others == ("a hut",)


@pytest.mark.parametrize(("method", "weight"), [("null-space", 10), ("uce", 0), ("erasepro", 1)])
def test_retained_prompts_leave_a_methods_own_weight(
    method: str, weight: float, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(SHORT + f"method: {method}\nretain: {{prompts: [a hut]}}")
    assert recipe.retain.weight == weight


def test_retained_prompts_with_a_targets_words_are_left_out(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(SHORT)
    prompts = ("a vase", "a VAN  gogh", "van", "gogh van", "Rembrandt, Van Gogh", "a vase")
    assert recipe.without_targets(prompts) == ("a vase", "van", "gogh van")


def test_a_recipe_cannot_be_changed(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_recipe(SHORT).name = "other"


def test_every_shipped_recipe_loads_and_says_what_it_does() -> None:
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
    "unknown key": (SHORT + "metod: uce", 4, "metod: unknown key; did you mean method?"),
    "key of a later version": (SHORT + "stress: {}", 4, "stress: unknown key"),
    "tolerance of one": (SHORT + "tolerance: 1", 4, "tolerance: should be less than 1, not 1"),
    "tolerance as text": (SHORT + "tolerance: exact", 4, "tolerance: "),
    "negative weight": (SHORT + "retain: {weight: -1}", 4, "retain.weight: "),
    "unknown key of retain": (SHORT + "retain: {wieght: 1}", 4, "did you mean weight?"),
    "unknown text encoder": (SHORT + "text_encoders: [own]", 4, "text_encoders[0]: "),
    "limit of zero": (SHORT + "limits: {leak: 0}", 4, "limits.leak: "),
    "probe without a placeholder": (SHORT + "probe: {prompts: [a]}", 4, "must contain {} once"),
    "probe on a solved prompt": (SHORT + "probe: {prompts: ['{} ']}", 1, "share 'Van Gogh '"),
    "drift on a retained prompt": (
        SHORT + "retain: {prompts: [a cat]}\nprobe: {others: [A cat]}",
        1,
        "probe.others and retain.prompts share 'A cat'",
    ),
    "a retained prompt that is too long": (
        SHORT + "retain: {prompts: ['" + "cat " * 80 + "']}",
        4,
        "82 tokens",
    ),
    "calibration on solved prompts": (
        SHORT + "calibration: {prompts: ['{} ']}",
        1,
        "'Van Gogh' is solved for or probed in all of calibration.prompts: add other ones",
    ),
    "calibration on retained and probed prompts": (
        SHORT + "calibration: {others: [a cat, a dog]}\n"
        "retain: {prompts: [A cat]}\nprobe: {others: [a Dog, a hut]}",
        1,
        "all of calibration.others are retained or probed",
    ),
    "unknown sampler": (SHORT + "evaluate: {sampler: euler}", 4, "evaluate.sampler: "),
    "no steps": (SHORT + "evaluate: {steps: 0}", 4, "evaluate.steps: "),
    "endless guidance": (SHORT + "evaluate: {guidance: .inf}", 4, "evaluate.guidance: "),
    "probe.others of targets alone": (
        SHORT + "probe:\n  others: [a cat by Van Gogh, van gogh]",
        4,
        "probe: each of probe.others contains a target's words",
    ),
    "retain.prompts of targets alone": (
        SHORT + "retain: {prompts: [a van gogh]}",
        4,
        "retain: each of retain.prompts contains a target's words",
    ),
    "evaluate.others of targets alone": (
        SHORT + "evaluate: {others: [{concept: art, prompt: Van Gogh}]}",
        4,
        "evaluate: each of evaluate.others contains a target's words",
    ),
    "an odd size": (SHORT + "evaluate: {size: 500}", 4, "evaluate.size: "),
    "unknown key of evaluate": (SHORT + "evaluate: {seed: 1}", 4, "did you mean seeds?"),
    "unknown key of an other": (
        SHORT + "evaluate: {others: [{promt: a}]}",
        4,
        "evaluate.others[0].promt: unknown key; did you mean prompt?",
    ),
    "an other that is no text": (
        SHORT + "evaluate:\n  others: [a, 5]",
        5,
        "evaluate.others[1]: should be text, not 5; quote it",
    ),
    "a path that is no text": (SHORT + "evaluate: {csv: 5}", 4, "evaluate.csv: should be text"),
    "no path": (SHORT + "evaluate: {csv: ''}", 4, "evaluate.csv: must not be empty"),
    "pictures without a placeholder": (
        SHORT + "evaluate:\n  prompts: ['a', '{} ']",
        5,
        "must contain {} once",
    ),
    "pictures of what was solved for": (
        SHORT + "evaluate: {prompts: ['{} ']}",
        4,
        "evaluate.prompts and prompts share 'Van Gogh '",
    ),
    "pictures of too long a prompt": (
        SHORT + "evaluate: {prompts: ['{} " + "cat " * 80 + "']}",
        4,
        "84 tokens",
    ),
    "training of a closed form": (
        SHORT + "training: {steps: 3}",
        4,
        "training: erasepro is a closed form: only esd-x, esd-u, ac are trained",
    ),
    "a search": (SHORT + "settings: auto", 4, "settings"),
    "strength beside a tolerance": (
        SHORT + "strength: 2\ntolerance: 0.1",
        5,
        "strength is for calibrated matrices: leave out one of the two",
    ),
    "strength of another method": (
        SHORT + "method: uce\nstrength: 2",
        5,
        "uce has a trade-off of its own",
    ),
    "no strength": (SHORT + "strength: 0", 4, "strength"),
    "training with a tolerance": (SHORT + "method: ac\ntolerance: 0.1", 5, "ac is trained"),
    "training of the text encoder": (
        SHORT + "method: esd-x\nlayers: {text_encoder: 1-12}",
        5,
        "esd-x edits the U-Net only",
    ),
    "guidance of ac": (
        SHORT + "method: ac\ntraining: {guidance: 1.0}",
        5,
        "guidance is ESD's: ac has none",
    ),
    "blocks of what is in none": (
        SHORT + "method: esd-u\nlayers: {unet: mid}",
        1,
        "set layers.unet to all",
    ),
    "unknown key of training": (
        SHORT + "method: ac\ntraining: {stops: 3}",
        5,
        "training.stops: unknown key; did you mean steps?",
    ),
    "uce with a tolerance": (SHORT + "method: uce\ntolerance: 0.1", 5, "a trade-off of its own"),
    "a null space with a tolerance": (
        SHORT + "method: null-space\ntolerance: 0.1",
        5,
        "null-space has a trade-off of its own",
    ),
    "uce with a retain weight": (SHORT + "method: uce\nretain: {weight: 1}", 5, "a trade-off"),
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
    "unknown method": (SHORT + "method: esd", 4, "method: should be erasepro, "),
    "layers out of range": (SHORT + "layers: {text_encoder: 1-13}", 4, "out of range"),
    "layer zero": (SHORT + "layers: {text_encoder: 0}", 4, "out of range"),
    "layers reversed": (SHORT + "layers: {text_encoder: 9-3}", 4, "write 3-9"),
    "not a layer": (SHORT + "layers: {text_encoder: first}", 4, "is not a layer"),
    "a truth value as layer": (SHORT + "layers: {text_encoder: true}", 4, "is not a layer"),
    "unknown block": (SHORT + "layers: {unet: up.0}", 4, "no U-Net block"),
    "blocks reversed": (SHORT + "layers: {unet: up.3-1}", 4, "write up.1-3"),
    "nothing to edit": (
        SHORT + "layers: {text_encoder: none, unet: none}",
        4,
        "nothing would be edited",
    ),
    "uce on the text encoder": (
        SHORT + "method: uce\nlayers: {text_encoder: 1-12}",
        5,
        "uce edits the U-Net only",
    ),
    "unknown tokens": (SHORT + "tokens: some", 4, "tokens: "),
    "tokens out of range": (SHORT + "tokens: {first: 78}", 4, "tokens.first: "),
    "unknown pairing": (SHORT + "pairing: words", 4, "pairing: "),
    "clip_skip out of range": (SHORT + "clip_skip: [0]", 4, "clip_skip[0]: "),
    "clip_skip twice": (SHORT + "clip_skip: [2, 2]", 4, "stands here twice"),
    "key twice": (SHORT + "version: 1", 4, "version stands here twice"),
    "key that is a list": ("version: 1\n? [a]\n: b", 2, "a key must be a word"),
    "alias": ("version: &v 1\nname: *v", 1, "anchors and aliases"),
    "tag": ("version: !!python/object/apply:os.getcwd []", 1, "tags such as"),
    "two documents": (SHORT + "--- 1", 4, "another document"),
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
    assert f"{tmp_path}: is a folder, not a recipe" in refused(cli, tmp_path)
    assert f"{tmp_path}/none.yaml: there is no such file" in refused(cli, tmp_path / "none.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "must be a regular file" in refused(cli, tmp_path / "pipe.yaml")


def test_all_mistakes_are_reported_at_once_in_order(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe("version: 1\nconcepts: [{target: 5, anchor: b}]\nmetod: x\npairing: y")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4"]


@pytest.mark.parametrize("more", ["", "method: uce\n", "layers: {unet: none}\n", "tokens: all\n"])
def test_a_changed_recipe_is_checked_like_any_other(
    make_recipe: Callable[[str], Recipe], more: str
) -> None:
    recipe = make_recipe(SHORT + more)
    assert recipe.changed() == recipe
    assert recipe.changed(clip_skip=[2]).clip_skip == (2,)
    with pytest.raises(ValidationError, match="tolerance"):
        recipe.changed(tolerance=2)


EVALUATE = """
evaluate:
  steps: 30
  guidance: 0
  sampler: dpm++
  size: 256
  seeds: 3
  prompts: ["a harbour by {}"]
  others: [a dog in the rain, {concept: cat, prompt: a wet cat}]
  csv: own/prompts.csv
"""


def test_how_it_is_judged_is_no_part_of_the_erasure(write_recipe: WriteRecipe) -> None:
    """A batch whose recipes are judged otherwise converts nothing anew."""
    plain = load_recipe(write_recipe(SHORT))
    judged = load_recipe(path := write_recipe(SHORT + EVALUATE))
    assert judged != plain
    assert judged.digest == plain.digest
    assert judged.model_dump() == plain.model_dump()
    assert judged.changed(pairing="position").evaluate == judged.evaluate
    assert judged.evaluate.csv == path.parent / "own/prompts.csv"
    assert [other.prompt for other in judged.evaluate.others] == ["a dog in the rain", "a wet cat"]


def test_digests_are_what_they_were() -> None:
    """The digest of a shipped recipe stands in manifests that are out there."""
    assert load_recipe("van-gogh").digest.startswith("999a469a1dcd1da2")
    assert load_recipe("nudity").digest.startswith("b202bcaafdad0ba5")
    assert load_recipe(Path("recipes/paper/man.yaml")).digest.startswith("f7a5ef85db680531")


def test_pictures_are_made_as_suits_the_model(make_recipe: MakeRecipe) -> None:
    real, demo = ARCHITECTURES
    asked = make_recipe(SHORT).evaluate
    assert resolve_settings(asked, real) == Settings(50, 7.5, 512, "ddpm")
    assert resolve_settings(asked, demo) == Settings(20, 4.0, 64, "dpm++")
    for model in ARCHITECTURES:
        asked = make_recipe(SHORT + EVALUATE).evaluate
        assert resolve_settings(asked, model) == Settings(30, 0, 256, "dpm++")
