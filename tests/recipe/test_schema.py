"""The JSON Schema of recipes: it is current, and accepts what the loader accepts."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from erasepro_convert.errors import RecipeError
from erasepro_convert.library import shipped_root
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_json
from erasepro_convert.recipe.yaml_document import read_document
from tests.conftest import SHORT, WriteRecipe
from tests.recipe.test_error_messages import KINDS, PLACES, recipe

SCHEMA: dict[str, Any] = json.loads(schema_json())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

ACCEPTED = (
    "layers: {text_encoder: 1-12}",
    "layers: {text_encoder: 5}",
    "layers: {text_encoder: [1, 3-5, '7 - 8']}",
    "layers: {text_encoder: none, unet: all}",
    "layers: {text_encoder: all, unet: none}",
    "layers: {text_encoder: []}",
    "layers: {unet: mid}",
    "layers: {unet: up.1-3}",
    "layers: {unet: [down.0, mid, up.1-2]}",
    "tokens: {first: 8}",
    "tokens: eos",
    "tolerance: null",
    "tolerance: 0.1",
    "limits: {leak: null, drift: 1}",
    "clip_skip: [1, 2]",
    "method: esd-x\ntraining: {steps: 10}",
    "method: esd-x\ntraining: null",
    "evaluate: {others: [a dog in the rain, {prompt: a cat, concept: cat}, {prompt: a house}]}",
    "evaluate: {csv: prompts.csv, sampler: null}",
    "about: 'a line: of # text'",
    "release: {title: a, tags: [b, c], review: 2027-06-01, contact: null}",
)
CONCEPTS = (
    "{target: a, anchor: ''}",
    "{target: a, anchor: b, synonyms: auto}",
    "{target: a, anchor: b, synonyms: [c, d]}",
    "{target: a, anchor: b, synonyms: []}",
    "{target: a, anchor: b, synonyms: null}",
    "{target: a, anchor: b, prompts: ['{}', 'one {}']}",
)
MISSPELT = (
    "metod: uce",
    "layers: {text_encoders: 1}",
    "retain: {wieght: 1}",
    "calibration: {prompt: []}",
    "probe: {prompt: []}",
    "limits: {leek: 1}",
    "tokens: {frist: 8}",
    "evaluate: {seed: 3}",
    "release: {titel: a}",
    "evaluate: {others: [{promt: a}]}",
    "method: esd-x\ntraining: {step: 10}",
)


def test_what_is_shipped_is_current() -> None:
    assert (shipped_root() / SCHEMA_FILE).read_text("utf-8") == schema_json()


def test_every_key_is_described() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, value in part.get("properties", {}).items():
            assert value.get("description"), key


def test_every_shipped_recipe_is_valid() -> None:
    for file in Path("recipes").rglob("*.yaml"):
        VALIDATOR.validate(read_document(file).data)


@pytest.mark.parametrize("line", [*ACCEPTED, *(f"concepts: [{c}]" for c in CONCEPTS)])
def test_what_the_loader_accepts_is_valid(write_recipe: WriteRecipe, line: str) -> None:
    path = write_recipe(recipe(line))
    load_recipe(path)
    VALIDATOR.validate(read_document(path).data)


def test_no_value_that_the_loader_accepts_is_refused(write_recipe: WriteRecipe) -> None:
    for place, right in PLACES.items():
        for kind in right - {"huge"}:
            path = write_recipe(recipe(place.replace("{}", KINDS[kind], 1)))
            load_recipe(path)
            VALIDATOR.validate(read_document(path).data)


@pytest.mark.parametrize("line", MISSPELT)
def test_a_misspelt_key_is_not_valid(write_recipe: WriteRecipe, line: str) -> None:
    path = write_recipe(SHORT + line)
    assert list(VALIDATOR.iter_errors(read_document(path).data))
    with pytest.raises(RecipeError):
        load_recipe(path)


def test_version_and_concepts_are_needed(write_recipe: WriteRecipe) -> None:
    for text in ("version: 1", "concepts: [{target: a, anchor: b}]", "version: 2\nconcepts: []"):
        assert not VALIDATOR.is_valid(read_document(write_recipe(text)).data)
