"""The two nodes: their inputs, their outputs, and the words that they show."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import comfy.model_management
import comfy.utils
import folder_paths
from pydantic import ValidationError

from erasepro_convert import (
    Check,
    EraseproError,
    Recipe,
    RecipeError,
    UsageError,
    convert,
    load_recipe,
    recipe_from_yaml,
    recipe_names,
    verdict,
)

from .loaded_model import Clip, Model, erase

CATEGORY = "model/erasepro"
EXAMPLE = """\
version: 1
concepts:
  - {target: Van Gogh, anchor: artist}
"""
FROM_YAML = "as in yaml"
"""The entry of the list of recipes that stands for the text."""
FILES_ONLY = ("hash", "write")
"""Stages that run beside the erasure, and take little of the time."""


class _RecipeNode:
    """A node with a recipe, whose mistakes show before anything runs."""

    CATEGORY = CATEGORY
    FUNCTION = "run"

    @classmethod
    def VALIDATE_INPUTS(cls, recipe: str | None, yaml: str | None) -> bool | str:  # noqa: N802
        """Return True, or what is wrong; an input is None where another node gives it."""
        try:
            if recipe is not None and yaml is not None:
                read_recipe(recipe, yaml)
        except EraseproError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, recipe: str | None, yaml: str | None, **_: object) -> str:  # noqa: N802
        """Return the recipe's digest: its file may have changed since the last run."""
        return read_recipe(recipe, yaml).digest if recipe and yaml is not None else ""


def recipe_inputs() -> dict[str, Any]:
    """Return the inputs that say what is erased, in ComfyUI's form."""
    return {
        "recipe": (
            [FROM_YAML, *recipe_names()],
            {"tooltip": "A recipe by name, or the one in the text below."},
        ),
        "yaml": (
            "STRING",
            {
                "multiline": True,
                "default": EXAMPLE,
                "tooltip": f"A recipe of your own, for {FROM_YAML!r}: which concepts go, and what "
                "they become.",
            },
        ),
        "strength": (
            "FLOAT",
            {
                "default": 1.0,
                "min": 0.01,
                "max": 100.0,
                "step": 0.01,
                "tooltip": "A factor on the recipe's strength: above 1 more of the concepts goes, "
                "and others change more.",
            },
        ),
    }


class EraseConcepts(_RecipeNode):
    """MODEL and CLIP in, both without the recipe's concepts out."""

    DESCRIPTION = (
        "Takes concepts out of a Stable Diffusion 1.x model: what a checkpoint converted by "
        "erasepro-convert would hold. LoRAs and merges before this node are erased too; those "
        "behind it can bring a concept back. Fails where the result does not hold."
    )
    RETURN_TYPES = ("MODEL", "CLIP", "STRING")
    RETURN_NAMES = ("MODEL", "CLIP", "measures")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return what goes in, in ComfyUI's form."""
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), **recipe_inputs()}}

    def run(
        self, model: Model, clip: Clip, recipe: str, yaml: str, strength: float
    ) -> tuple[Model, Clip, str]:
        """Erase, and say what was measured."""
        chosen = with_strength(read_recipe(recipe, yaml), strength)
        model, clip, erased = erase(model, clip, chosen, progress())
        return model, clip, describe(erased.checks)


class SaveErasedCheckpoint(_RecipeNode):
    """A checkpoint's file in, an erased file and its manifest out."""

    DESCRIPTION = (
        "Converts a checkpoint's file as the command erasepro-convert does: the same bytes, in the "
        "output folder, and a manifest beside them that proves what was done. It reads the file "
        "and nothing of the workflow: what LoRAs, merges and other nodes change is not in it."
    )
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("file", "measures")
    OUTPUT_NODE: ClassVar[bool] = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Return what goes in, in ComfyUI's form."""
        return {
            "required": {
                "ckpt_name": (
                    folder_paths.get_filename_list("checkpoints"),
                    {"tooltip": "The checkpoint that is erased; its file stays as it is."},
                ),
                **recipe_inputs(),
                "filename_prefix": (
                    "STRING",
                    {
                        "default": "checkpoints/erased",
                        "tooltip": "Folder and name in ComfyUI's output folder; a number follows.",
                    },
                ),
            }
        }

    def run(
        self, ckpt_name: str, recipe: str, yaml: str, strength: float, filename_prefix: str
    ) -> dict[str, Any]:
        """Convert the file; say where the result lies and what was measured."""
        chosen = with_strength(read_recipe(recipe, yaml), strength)
        source = Path(folder_paths.get_full_path_or_raise("checkpoints", ckpt_name))
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        target = Path(folder, f"{name}_{counter:05}_.safetensors")
        manifest = convert(chosen, source, target, progress=progress())
        measures = describe(verdict(manifest).checks)
        shown = f"{Path(subfolder, target.name)}\n{measures}"
        return {"ui": {"text": [shown]}, "result": (str(target), measures)}


def read_recipe(name: str, yaml: str) -> Recipe:
    """Return the recipe of a name, or that of the text where the name says so.

    Raises RecipeError for a mistake in it, UsageError for a name that no recipe has.
    """
    if name == FROM_YAML:
        return recipe_from_yaml(yaml)
    if name not in recipe_names():  # load_recipe takes paths too, which a workflow must not
        raise UsageError(f"there is no recipe {name!r} here")
    return load_recipe(name)


def with_strength(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe with its strength times a factor; with 1 as it is.

    Raises RecipeError for a recipe that takes no strength.
    """
    if factor == 1:
        return recipe
    try:
        return recipe.changed(strength=recipe.strength * factor)
    except ValidationError as error:
        raise RecipeError(
            f"strength {factor:g}: {error.errors()[0]['msg'].removeprefix('Value error, ')}; "
            "1 leaves the recipe as it is"
        ) from error


def progress() -> Callable[[str, int, int], None]:
    """Return a callback that moves the node's bar, and raises where the user cancels."""
    bar = comfy.utils.ProgressBar(1)

    def report(stage: str, done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if stage not in FILES_ONLY:
            bar.update_absolute(done, total)

    return report


def describe(checks: Sequence[Check]) -> str:
    """Return a line for each measure, as the command prints it."""
    marks = {True: "✓", False: "✗", None: "–"}
    return "\n".join(f"{marks[check.held]} {check.what}" for check in checks)


NODE_CLASS_MAPPINGS = {
    "EraseproEraseConcepts": EraseConcepts,
    "EraseproSaveErasedCheckpoint": SaveErasedCheckpoint,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EraseproEraseConcepts": "Erase concepts",
    "EraseproSaveErasedCheckpoint": "Save erased checkpoint",
}
