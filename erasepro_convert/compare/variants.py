"""Variants of a recipe for each method of a comparison."""

from collections.abc import Mapping
from typing import Any, get_args

from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.training import DEFAULTS as TRAINED

PAPER = "erasepro-paper"
"""ErasePro as the paper has it: the bare name, exact, by position, for the edited text encoder."""

ERASEPRO = ("erasepro", "erasepro-modified")

METHODS: tuple[str, ...] = (
    "erasepro",
    PAPER,
    *get_args(Recipe.model_fields["method"].annotation)[1:],
)

SOLVED = tuple(method for method in METHODS if method not in TRAINED)

NO_LIMITS = {"leak": None, "drift": None, "relative_update": None}

_ERASEPRO_KEYS = ("settings", "tolerance", "retain", "text_encoders", "layers")
_METHOD_KEYS = (*_ERASEPRO_KEYS, "training", "method", "limits", "evaluate")


def recipe_for_method(
    recipe: Recipe, method: str, training: Mapping[str, Mapping[str, Any]] | None = None
) -> Recipe:
    """Return a recipe with the same concepts and prompts for another method, without limits.

    ``training`` has settings of gradient methods.  The recipe's own settings go to its own method.
    Other methods get their defaults, apart from the U-Net's blocks and the retained prompts.  A
    recipe that searches for settings keeps its limits, since the search needs them.
    """
    given = recipe.model_dump(exclude_unset=True, exclude={"evaluate"})
    data = {key: value for key, value in given.items() if key not in _METHOD_KEYS}
    data |= {"limits": NO_LIMITS, "evaluate": recipe.evaluate}
    if method == recipe.method or (recipe.method in ERASEPRO and method in ERASEPRO):
        data |= {key: given[key] for key in (*_ERASEPRO_KEYS, "training") if key in given}
        if recipe.settings:
            data["limits"] = recipe.limits
    elif method != PAPER:
        if "unet" in given.get("layers", {}) and method != "esd-u":  # which edits what is in none
            data["layers"] = {"unet": given["layers"]["unet"]}
        if "prompts" in given.get("retain", {}):
            weight = {"weight": 0} if method == "uce" or method in TRAINED else {}
            data["retain"] = {"prompts": given["retain"]["prompts"], **weight}
    if method in TRAINED and training and method in training:
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
