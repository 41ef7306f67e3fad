"""Variants of a recipe, one for each method that a comparison runs."""

from collections.abc import Mapping
from typing import Any

from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe import methods as registry

PAPER = "erasepro-paper"
"""ErasePro as the paper has it: the bare name, exact, by position, for the edited text encoder."""

METHODS: tuple[str, ...] = ("erasepro", PAPER, *list(registry.METHODS)[1:])

SOLVED = tuple(method for method in METHODS if method not in registry.TRAINED)

NO_LIMITS = {"leak": None, "drift": None, "relative_update": None}

_ERASEPRO_KEYS = ("strength", "tolerance", "calibration", "retain", "text_encoders", "layers")
_METHOD_KEYS = (*_ERASEPRO_KEYS, "training", "method", "limits", "evaluate")


def recipe_for_method(
    recipe: Recipe, method: str, training: Mapping[str, Mapping[str, Any]] | None = None
) -> Recipe:
    """Return a recipe with the same concepts and prompts for another method, without limits.

    ``training`` has settings of gradient methods.  The recipe's own settings go to its own method.
    Other methods get their defaults, apart from the U-Net's blocks and the retained prompts.  A
    recipe that searches for settings keeps its limits, since the search needs them.
    """
    own_settings = recipe.model_dump(exclude_unset=True, exclude={"evaluate"})
    source = registry.METHODS[recipe.method]
    data = {
        key: value
        for key, value in own_settings.items()
        if key not in _METHOD_KEYS and source.defaults.get(key) != value
    }
    if source.templates:
        data["concepts"] = [_without(concept, source.templates) for concept in data["concepts"]]
    data |= {"limits": NO_LIMITS, "evaluate": recipe.evaluate}
    # Only the variant with the paper's settings is no method of its own.
    entry = registry.METHODS.get(method)
    if entry and _share_settings(source, entry):
        data |= {
            key: own_settings[key] for key in (*_ERASEPRO_KEYS, "training") if key in own_settings
        }
        if "layers" in data and "layers.text_encoder" not in entry.keys:
            data["layers"].pop("text_encoder", None)
    elif entry:
        if "unet" in own_settings.get("layers", {}) and not _trains_outside_blocks(entry):
            data["layers"] = {"unet": own_settings["layers"]["unet"]}
        if "prompts" in own_settings.get("retain", {}):
            weight = {} if "retain.weight" in entry.keys else {"weight": 0}
            data["retain"] = {"prompts": own_settings["retain"]["prompts"], **weight}
    if entry and entry.is_trained and training and method in training:
        data["training"] = training[method]
    if method == PAPER:
        data |= {
            "method": "erasepro",
            "concepts": [
                {"target": c.target, "anchor": c.anchor, "prompts": ["{}"]} for c in recipe.concepts
            ],
            "tokens": "prompt",
            "pairing": "position",
            "tolerance": 0,
            "retain": {"weight": 0},
            "text_encoders": ["edited"],
        }
        return Recipe.model_validate(data)
    return Recipe.model_validate({**data, "method": method})


def _without(concept: Mapping[str, Any], templates: tuple[str, ...]) -> dict[str, Any]:
    """A concept without its prompts where they are those that its method gives it."""
    given = {"prompts"} if concept.get("prompts") == templates else set()
    return {key: value for key, value in concept.items() if key not in given}


def _share_settings(one: registry.Method, other: registry.Method) -> bool:
    """Whether settings of the one mean the same to the other."""
    return one is other or ("tolerance" in one.keys and "tolerance" in other.keys)


def _trains_outside_blocks(method: registry.Method) -> bool:
    """Whether the method's tensors lie in no single block, so that it takes the U-Net whole."""
    training: Mapping[str, Any] = method.defaults.get("training", {})
    return bool(training.get("parameters") == "not-cross-attention")
