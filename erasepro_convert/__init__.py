"""Erase concepts from Stable Diffusion 1.x checkpoints, and record the proof.

The public interface is what ``__all__`` lists, explained in docs/python.md.  Modules are not part
of it: they move.
"""

import importlib as _importlib
import typing as _typing

from erasepro_convert.runtime.version import __version__

if _typing.TYPE_CHECKING:
    from erasepro_convert.batch.convert_batch import convert_batch
    from erasepro_convert.batch.inputs import find_checkpoints
    from erasepro_convert.batch.ledger import Entry
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
    from erasepro_convert.images.preview import Preview, plan_preview, preview, time_preview
    from erasepro_convert.inspection import Inspection, inspect
    from erasepro_convert.library import recipe_names
    from erasepro_convert.manifest import Manifest, ProbeRecord, read_manifest
    from erasepro_convert.manifest.verdict import Check, Verdict, verdict
    from erasepro_convert.probing.neighbours import Neighbours, suggest
    from erasepro_convert.probing.probe import probe
    from erasepro_convert.recipe import Recipe, load_recipe, recipe_from_yaml
    from erasepro_convert.recipe.described import DescribedRecipe, describe_recipes
    from erasepro_convert.recipe.make import make_recipe
    from erasepro_convert.release.verify_evidence import VerifiedEvidence, verify_evidence
    from erasepro_convert.release.write import (
        write_card,
        write_civitai,
        write_evidence,
        write_report,
    )
    from erasepro_convert.verification import Finding, Verified, verify

_MODULES = {
    "batch.convert_batch": ("convert_batch",),
    "batch.inputs": ("find_checkpoints",),
    "batch.ledger": ("Entry",),
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
    "images.preview": ("Preview", "plan_preview", "preview", "time_preview"),
    "inspection": ("Inspection", "inspect"),
    "library": ("recipe_names",),
    "manifest": ("Manifest", "ProbeRecord", "read_manifest"),
    "manifest.verdict": ("Check", "Verdict", "verdict"),
    "probing.neighbours": ("Neighbours", "suggest"),
    "probing.probe": ("probe",),
    "recipe": ("Recipe", "load_recipe", "recipe_from_yaml"),
    "recipe.described": ("DescribedRecipe", "describe_recipes"),
    "recipe.make": ("make_recipe",),
    "release.verify_evidence": ("VerifiedEvidence", "verify_evidence"),
    "release.write": ("write_card", "write_civitai", "write_evidence", "write_report"),
    "verification": ("Finding", "Verified", "verify"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Check",
    "CheckpointError",
    "DescribedRecipe",
    "Entry",
    "Erased",
    "EraseproError",
    "Finding",
    "Inspection",
    "LimitError",
    "Manifest",
    "MissingObjectError",
    "Neighbours",
    "Options",
    "Preview",
    "ProbeRecord",
    "Recipe",
    "RecipeError",
    "StorageError",
    "UsageError",
    "Verdict",
    "VerificationError",
    "Verified",
    "VerifiedEvidence",
    "__version__",
    "convert",
    "convert_batch",
    "describe_recipes",
    "erase_state_dict",
    "find_checkpoints",
    "inspect",
    "load_recipe",
    "make_recipe",
    "plan_preview",
    "preview",
    "probe",
    "read_manifest",
    "recipe_from_yaml",
    "recipe_names",
    "suggest",
    "time_preview",
    "verdict",
    "verify",
    "verify_evidence",
    "write_card",
    "write_civitai",
    "write_evidence",
    "write_report",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: importing all of them takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
