"""Wrong values in recipes: each is told once, at its line and key, in words of our own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe import Recipe, load_recipe
from tests.conftest import SHORT

MakeRecipe = Callable[[str], Recipe]

KINDS = {
    "null": "~",
    "text": "cats",
    "number": "0.5",
    "list": "[[a]]",
    "mapping": "{first: 1}",
    "truth": "true",
    "not a number": ".nan",
    "endless": ".inf",
    "huge": "9" * 5000,
    "number as text": "'0.5'",
}
TRAINED = "method: esd-x\n"

# A place in a recipe, and the kinds that are right there.
PLACES: dict[str, set[str]] = {
    "version: {}": set(),
    "name: {}": {"text", "number as text"},
    "method: {}": set(),
    "concepts: {}": set(),
    "concepts: [{}]": set(),
    "concepts: [{target: {}, anchor: artist}]": {"text", "number as text"},
    "concepts: [{target: artist, anchor: {}}]": {"text", "number as text"},
    "concepts: [{target: a, anchor: b, prompts: {}}]": set(),
    "concepts: [{target: a, anchor: b, prompts: [{}]}]": set(),
    "layers: {}": set(),
    "layers: {text_encoder: {}}": set(),
    "layers: {unet: {}}": set(),
    "tokens: {}": {"mapping"},
    "tokens: {first: {}}": set(),
    "pairing: {}": set(),
    "strength: {}": {"number", "huge"},
    "tolerance: {}": {"null", "number"},
    "retain: {}": set(),
    "retain: {prompts: {}}": set(),
    "retain: {prompts: [{}]}": {"text", "number as text"},
    "retain: {weight: {}}": {"number", "huge"},
    "calibration: {}": set(),
    "calibration: {prompts: {}}": set(),
    "calibration: {prompts: [{}]}": set(),
    "calibration: {others: {}}": set(),
    "calibration: {others: [{}]}": {"text", "number as text"},
    TRAINED + "training: {}": {"null"},
    TRAINED + "training: {steps: {}}": set(),
    TRAINED + "training: {learning_rate: {}}": {"number", "huge"},
    TRAINED + "training: {batch: {}}": set(),
    TRAINED + "training: {parameters: {}}": set(),
    TRAINED + "training: {guidance: {}}": {"null", "number", "huge"},
    TRAINED + "training: {seed: {}}": set(),
    "text_encoders: {}": set(),
    "text_encoders: [{}]": set(),
    "probe: {}": set(),
    "probe: {prompts: {}}": set(),
    "probe: {prompts: [{}]}": set(),
    "probe: {others: {}}": set(),
    "probe: {others: [{}]}": {"text", "number as text"},
    "limits: {}": set(),
    "limits: {leak: {}}": {"null", "number", "huge"},
    "limits: {drift: {}}": {"null", "number", "huge"},
    "limits: {relative_update: {}}": {"null", "number", "huge"},
    "clip_skip: {}": set(),
    "clip_skip: [{}]": set(),
    "release: {}": {"null"},
    "release: {title: {}}": {"null", "text", "number as text"},
    "release: {tags: {}}": set(),
    "release: {tags: [{}]}": {"text", "number as text"},
    "release: {base_model: {}}": {"null"},
    "release: {review: {}}": {"null"},
    "evaluate: {}": set(),
    "evaluate: {steps: {}}": {"null"},
    "evaluate: {guidance: {}}": {"null", "number", "huge"},
    "evaluate: {sampler: {}}": {"null"},
    "evaluate: {size: {}}": {"null"},
    "evaluate: {seeds: {}}": set(),
    "evaluate: {prompts: {}}": set(),
    "evaluate: {prompts: [{}]}": set(),
    "evaluate: {others: {}}": set(),
    "evaluate: {others: [{}]}": {"text", "number as text"},
    "evaluate: {others: [{prompt: {}}]}": {"text", "number as text"},
    "evaluate: {others: [{prompt: a, concept: {}}]}": {"text", "number as text"},
    "about: {}": {"text", "number as text"},
    "evaluate: {csv: {}}": {"null", "text", "number as text"},
}
PYDANTICS = ("input", "valid", "dictionary", "instance", "union", "parsing", "type", "None", "True")


def recipe(line: str) -> str:
    """What every recipe needs, and at its end ``line``."""
    needed = ("version: 1", "concepts: [{target: Van Gogh, anchor: artist}]")
    key = line.partition(":")[0] + ":"
    return "\n".join((*(part for part in needed if not part.startswith(key)), line))


def refusal(folder: Path, text: str) -> list[str]:
    """The lines of a refused recipe's message, without the file's name."""
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def test_every_field_is_in_the_table() -> None:
    """A field that comes later is looked at, too."""
    named = {line.split(":")[0] for place in PLACES for line in place.splitlines()}
    assert named == set(Recipe.model_fields)


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_is_told_once_in_plain_words(tmp_path: Path, place: str) -> None:
    for kind in KINDS.keys() - PLACES[place]:
        text = recipe(place.replace("{}", KINDS[kind], 1))
        lines = refusal(tmp_path, text)
        key = text.splitlines()[-1].partition(":")[0]
        for line in lines:
            assert line.startswith(f"{text.count(chr(10)) + 1}: {key}"), (kind, line)
            assert not [word for word in PYDANTICS if word in line], (kind, line)
        # In a mapping, keys can be unknown and others missing.
        assert len(lines) == 1 or kind == "mapping", (kind, lines)
        assert len(set(lines)) == len(lines), (kind, lines)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("tokens: 8", "tokens: should be padded, prompt, all, last, eos or {first: 8}, not 8"),
        ("clip_skip: 2", "clip_skip: should be a list, not 2; write [2]"),
        (
            "probe: {prompts: 'a {}'}",
            "probe.prompts: should be a list, not 'a {}'; write [\"a {}\"]",
        ),
        (
            "concepts: [{target: a, anchor: b, prompts: [{}]}]",
            'concepts[0].prompts[0]: should be text, not a mapping; quote it: "{}"',
        ),
        (
            "concepts: [{target: ~, anchor: b}]",
            "concepts[0].target: should be text, not nothing (~, null and an empty place all are)",
        ),
        (
            "concepts: [{target: a, anchor: ~}]",
            'concepts[0].anchor: should be text, not nothing; write "" if you mean no words',
        ),
        (
            "concepts: [Van Gogh]",
            "concepts[0]: should be a mapping of target, anchor, prompts, synonyms, not 'Van Gogh'",
        ),
        (
            "concepts: ['target:Van Gogh']",
            "concepts[0]: should be a mapping of target, anchor, prompts, synonyms, "
            "not 'target:Van Gogh'; a space goes behind the colon of a key",
        ),
        (
            "concepts: {target: a, anchor: b}",
            'concepts: should be a list, not a mapping; write - {target: "…", anchor: "…"} '
            "for each",
        ),
        (
            "concepts: [{target: a, achor: b}]",
            "concepts[0].achor: unknown key; did you mean anchor?",
        ),
        ("METHOD: uce", "METHOD: unknown key; did you mean method?"),
        ("tolerance: '0.1'", "tolerance: should be a number, not '0.1'; write it without quotes"),
        ("tolerance: 0,1", "tolerance: should be a number, not '0,1'; write it with a point"),
        ("tolerance: 10%", "tolerance: should be a number, not '10%'"),
        (
            "pairing: Words",
            "pairing: should be word or position, not 'Words'; did you mean word?",
        ),
        ("version: '1'", "version: should be 1, not '1'; write it without quotes"),
        (
            "layers: {text_encoder: 1–12}",
            "layers.text_encoder: '1–12' is not a layer; write 5, 1-12, [1, 3-5], all or none; "
            "write - for –",
        ),
        ("limits: {leak: .inf}", "limits.leak: should be a finite number, not inf"),
        ("evaluate: {steps: 1e3}", "evaluate.steps: should be a whole number, not 1000.0"),
    ],
)
def test_a_message_says_what_to_write(tmp_path: Path, line: str, told: str) -> None:
    text = recipe(line)
    assert refusal(tmp_path, text) == [f"{text.count(chr(10)) + 1}: {told}"]


def test_what_follows_from_a_mistake_is_no_mistake(tmp_path: Path) -> None:
    lines = refusal(tmp_path, recipe("method: esd\ntraining: {steps: 3}"))
    assert [line.split(":")[1] for line in lines] == [" method"]


@pytest.mark.parametrize(
    ("written", "value"),
    [("5e-5", 5e-5), (".5", 0.5), ("0.5e0", 0.5), ("1e-1", 0.1), ("+0.25", 0.25), ("0", 0)],
)
def test_numbers_are_those_of_yaml_1_2(make_recipe: MakeRecipe, written: str, value: float) -> None:
    found = make_recipe(recipe(f"tolerance: {written}")).tolerance
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("written", ["no", "On", "y", "12:30", "2024-01-01", "1_000", "0x1F", "="])
def test_words_without_quotes_are_text(make_recipe: MakeRecipe, written: str) -> None:
    made = make_recipe(recipe(f"concepts: [{{target: {written}, anchor: artist}}]"))
    assert made.concepts[0].target == written


@pytest.mark.parametrize(
    "target", ["“Van Gogh”", "‘Van Gogh’", "«Van Gogh»", "„Van Gogh“", "＂Van Gogh＂"]
)
def test_typographic_quotation_marks_are_refused(tmp_path: Path, target: str) -> None:
    (line,) = refusal(tmp_path, recipe(f"concepts:\n  - target: {target}\n    anchor: artist"))
    assert line.startswith(f"3: {target} has quotation marks that YAML takes for a part of it; ")
    assert 'write "Van Gogh", or' in line


def test_a_comma_between_typographic_quotation_marks_is_told(tmp_path: Path) -> None:
    (line,) = refusal(tmp_path, recipe("concepts: [{target: “Vincent, Van Gogh”, anchor: a}]"))
    assert line.startswith("2: “Vincent has quotation marks")


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("Jeanne d’Arc", "Jeanne d’Arc"),
        ("the Beatles’ hat", "the Beatles’ hat"),
        ("a sign with “hello” on it", "a sign with “hello” on it"),
        ('"“Van Gogh”"', "“Van Gogh”"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("Van\u00a0Gogh", "Van\u00a0Gogh"),
    ],
)
def test_marks_that_belong_to_a_text_stay(
    make_recipe: MakeRecipe, written: str, target: str
) -> None:
    made = make_recipe(recipe(f"concepts: [{{target: {written}, anchor: artist}}]"))
    assert made.concepts[0].target == target


@pytest.mark.parametrize("quote", ["", '"'])
def test_characters_that_do_not_show_are_refused(tmp_path: Path, quote: str) -> None:
    text = recipe(f"concepts:\n  - anchor: artist\n    target: {quote}Van\u200b Gogh{quote}")
    (line,) = refusal(tmp_path, text)
    assert (
        line
        == "4: 'Van\\u200b Gogh' has an invisible zero width space (U+200B) after 'Van'; remove it"
    )


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("concepts:\n\t- {target: a, anchor: b}", 3, "indented with spaces, not with tabs"),
        ("concepts:\n  - target：Van Gogh\n    anchor: b", 4, "; write : for ："),
        ("concepts:\n  - target:Van Gogh\n    anchor: b", 4, "a space goes behind the colon"),
        ("\u00a0name: x", 3, "; there is a no-break space (U+00A0), which YAML does not take for"),
        ("name: Star Wars: A New Hope", 3, "; quote text that has : or # in it, or begins with"),
        ("probe: {prompts: [a photo of {}]}", 3, "; quote text that has : or # in it"),
        ("name: *star", 3, "anchors and aliases are not allowed in a recipe; quote text with"),
        ("name: !star", 3, "are not allowed in a recipe; quote text with !"),
    ],
)
def test_what_yaml_takes_for_something_else_is_explained(
    tmp_path: Path, text: str, line: int, advice: str
) -> None:
    (told,) = refusal(tmp_path, recipe(text))
    assert told.startswith(f"{line}: ") or "concepts" in text
    assert advice in told


@pytest.mark.parametrize("name", ["in.ckpt", "in.safetensors", "IN.PT"])
def test_a_checkpoint_in_the_place_of_a_recipe_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0" * 10)
    with pytest.raises(RecipeError, match="not a recipe; are recipe and checkpoint swapped"):
        load_recipe(tmp_path / name)


def test_a_mark_of_byte_order_is_no_text(make_recipe: MakeRecipe) -> None:
    assert make_recipe("\ufeff" + SHORT).name == "van-gogh"
