"""Erase concepts from Stable Diffusion 1.x checkpoints, and record the proof.

The public interface is what ``__all__`` lists, explained in docs/python.md.  Modules are not part
of it: they move.
"""

import importlib as _importlib
import typing as _typing

from erasepro_convert.runtime.version import __version__

if _typing.TYPE_CHECKING:
    from erasepro_convert.conversion.convert import convert
    from erasepro_convert.conversion.erase_state_dict import Erased, erase_state_dict
    from erasepro_convert.conversion.options import Options
    from erasepro_convert.errors import (
        CheckpointError,
        EraseproError,
        LimitError,
        MissingObjectError,
        RecipeError,
        StorageError,
        UsageError,
        VerificationError,
    )
    from erasepro_convert.inspection import Inspection, inspect
    from erasepro_convert.library import recipe_names
    from erasepro_convert.manifest import Manifest, ProbeRecord, read_manifest
    from erasepro_convert.manifest.verdict import Check, Verdict, verdict
    from erasepro_convert.probing.probe import probe
    from erasepro_convert.recipe import Recipe, load_recipe, recipe_from_yaml
    from erasepro_convert.verification import Finding, Verified, verify

_MODULES = {
    "conversion.convert": ("convert",),
    "conversion.erase_state_dict": ("Erased", "erase_state_dict"),
    "conversion.options": ("Options",),
    "errors": (
        "CheckpointError",
        "EraseproError",
        "LimitError",
        "MissingObjectError",
        "RecipeError",
        "StorageError",
        "UsageError",
        "VerificationError",
    ),
    "inspection": ("Inspection", "inspect"),
    "library": ("recipe_names",),
    "manifest": ("Manifest", "ProbeRecord", "read_manifest"),
    "manifest.verdict": ("Check", "Verdict", "verdict"),
    "probing.probe": ("probe",),
    "recipe": ("Recipe", "load_recipe", "recipe_from_yaml"),
    "verification": ("Finding", "Verified", "verify"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Check",
    "CheckpointError",
    "Erased",
    "EraseproError",
    "Finding",
    "Inspection",
    "LimitError",
    "Manifest",
    "MissingObjectError",
    "Options",
    "ProbeRecord",
    "Recipe",
    "RecipeError",
    "StorageError",
    "UsageError",
    "Verdict",
    "VerificationError",
    "Verified",
    "__version__",
    "convert",
    "erase_state_dict",
    "inspect",
    "load_recipe",
    "probe",
    "read_manifest",
    "recipe_from_yaml",
    "recipe_names",
    "verdict",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: importing all of them takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
