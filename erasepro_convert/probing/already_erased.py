"""Targets that were erased from a checkpoint before, because a recipe has grown since then.

The distance that is left between such a target and its anchor is too small to judge an erasure by,
and solving for the target again would spend the update on remainders.  It is measured and left as
it is, and only the new targets are solved.
"""

import json
from collections.abc import Collection, Iterator

from erasepro_convert.manifest import manifest_beside
from erasepro_convert.manifest.safetensors_metadata import erasures
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.probing.limits import leaking_concepts
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.sd1_weights import SD1Weights
from erasepro_convert.storage.location import Location

Claim = tuple[str, str]
"""A target and its anchor in lower case."""


def claimed_erased(recipe: Recipe, source: SD1Checkpoint, location: Location) -> list[Concept]:
    """The concepts that the checkpoint's metadata, or a manifest beside it, says were erased.

    A claim is no proof: ``measured_erased`` measures.
    """
    claims = {*_claims_of_metadata(source), *_claims_of_manifest(location)}
    return [c for c in recipe.concepts if (c.target.casefold(), c.anchor.casefold()) in claims]


def measured_erased(
    recipe: Recipe, source: SD1Weights, concepts: Collection[Concept]
) -> frozenset[str]:
    """The targets of those ``concepts`` that already mean their anchors to the checkpoint.

    For such a target the distance to its anchor, as a share of the reference words' distance, is
    within the recipe's limit on leak.  Without that limit there is none.
    """
    if recipe.limits.leak is None or not concepts:
        return frozenset()
    targets = frozenset(concept.target for concept in concepts)
    partial = recipe.changed(concepts=[concept.model_dump() for concept in concepts])
    found = measure_leak_and_drift(
        partial, source.read, source.read, (source.rows, source.rows), targets
    )
    return targets - {concept.target for concept in leaking_concepts(partial, found)}


def _claims_of_metadata(source: SD1Checkpoint) -> Iterator[Claim]:
    for erasure in erasures(source.checkpoint.metadata):
        try:
            concepts = json.loads(erasure.get("concepts", "[]"))
            yield from [(c["target"].casefold(), c["anchor"].casefold()) for c in concepts]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # another program wrote this metadata


def _claims_of_manifest(location: Location) -> Iterator[Claim]:
    """The claims of a manifest, which there are also where the metadata names no concepts."""
    manifest = manifest_beside(location)
    for concept in manifest.recipe.concepts if manifest else ():
        yield concept.target.casefold(), concept.anchor.casefold()
