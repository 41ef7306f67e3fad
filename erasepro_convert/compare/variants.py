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

_OF_ERASEPRO = ("settings", "tolerance", "retain", "text_encoders", "layers")
_OF_A_METHOD = (*_OF_ERASEPRO, "training", "method", "limits", "evaluate")


def variant(
    recipe: Recipe, method: str, training: Mapping[str, Mapping[str, Any]] | None = None
) -> Recipe:
    """What a recipe says of concepts and prompts, by another method, without limits.

    ``training`` has settings of gradient methods.  What the recipe itself says of one method's
    settings goes to that method; other methods have their own defaults, beside the blocks of the
    U-Net and the retained prompts.  A search for settings keeps the limits, which it goes by.
    """
    said = recipe.model_dump(exclude_unset=True, exclude={"evaluate"})
    data = {key: value for key, value in said.items() if key not in _OF_A_METHOD}
    data |= {"limits": NO_LIMITS, "evaluate": recipe.evaluate}
    theirs = registry.METHODS.get(method)  # None: the paper's settings are no method of their own
    if theirs and _share_settings(registry.METHODS[recipe.method], theirs):
        data |= {key: said[key] for key in (*_OF_ERASEPRO, "training") if key in said}
        if recipe.settings:
            data["limits"] = recipe.limits
    elif theirs:
        if "unet" in said.get("layers", {}) and not _trains_outside_blocks(theirs):
            data["layers"] = {"unet": said["layers"]["unet"]}
        if "prompts" in said.get("retain", {}):
            weight = {} if "retain.weight" in theirs.keys else {"weight": 0}
            data["retain"] = {"prompts": said["retain"]["prompts"], **weight}
    if theirs and theirs.is_trained and training and method in training:
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


def _share_settings(one: registry.Method, other: registry.Method) -> bool:
    """Whether settings of the one mean the same to the other."""
    return one is other or ("tolerance" in one.keys and "tolerance" in other.keys)


def _trains_outside_blocks(method: registry.Method) -> bool:
    """Whether the method's tensors lie in no single block, so that it takes the U-Net whole."""
    training: Mapping[str, Any] = method.defaults.get("training", {})
    return bool(training.get("parameters") == "not-cross-attention")
