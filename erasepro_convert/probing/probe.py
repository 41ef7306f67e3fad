"""Measure any checkpoint, whoever made it, against the one it came from."""

from pathlib import Path

from erasepro_convert.manifest import ProbeRecord
from erasepro_convert.probing.already_erased import measured_erased
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.probing.limits import leaking_concepts
from erasepro_convert.recipe import Recipe, as_recipe
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from erasepro_convert.storage.location import Location, locate


def probe(
    recipe: Recipe | Path | str,
    checkpoint: "Location | str",
    base: "Location | str | None" = None,
) -> ProbeRecord:
    """Measure how far a checkpoint has lost the recipe's targets.

    With ``base``, the checkpoint before erasure: leak of each target and drift of other prompts,
    with the checkpoint's own text encoder and with the base's, and reach of each target, with any
    input.  Without: how far each target is from its anchor in the checkpoint itself
    (``distance_after``), near 0 where the target has become the anchor; leak is 1, drift and reach
    are 0 then by definition.

    The recipe is one that was loaded, or a YAML file; checkpoints are paths, or URLs of objects in
    a store.

    Raises RecipeError for a recipe that is none, CheckpointError for a file that is not a sound
    SD1.x checkpoint, StorageError when a store fails; OSError passes through.
    """
    measured = open_sd1_checkpoint(locate(checkpoint))
    original = open_sd1_checkpoint(locate(base)) if base is not None else None
    return probe_checkpoint(as_recipe(recipe), measured, original)


def probe_checkpoint(
    recipe: Recipe, measured: SD1Checkpoint, original: SD1Checkpoint | None
) -> ProbeRecord:
    """Measure an open checkpoint; targets that the original had lost before are already erased."""
    record = measure_leak_and_drift(recipe, (original or measured).read, measured.read)
    if original and (erased := measured_erased(recipe, original, leaking_concepts(recipe, record))):
        record = measure_leak_and_drift(recipe, original.read, measured.read, already_erased=erased)
    return record
