"""The same recipe for each method."""

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
    if method == recipe.method or (recipe.method in ERASEPRO and method in ERASEPRO):
        data |= {key: said[key] for key in (*_OF_ERASEPRO, "training") if key in said}
        if recipe.settings:
            data["limits"] = recipe.limits
    elif method != PAPER:
        if "unet" in said.get("layers", {}) and method != "esd-u":  # which edits what is in none
            data["layers"] = {"unet": said["layers"]["unet"]}
        if "prompts" in said.get("retain", {}):
            weight = {"weight": 0} if method == "uce" or method in TRAINED else {}
            data["retain"] = {"prompts": said["retain"]["prompts"], **weight}
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
