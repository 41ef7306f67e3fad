"""Targets that a checkpoint has lost already: it was erased before, and a host's recipe has grown.

What such a target has left is no distance that an erasure could be judged by, and solving for it
again would spend the update on remainders.  It is measured and kept instead, and only what is new
is solved.
"""

import json
from collections.abc import Collection, Iterator

from erasepro_convert.manifest import ProbeRecord, manifest_beside
from erasepro_convert.manifest.safetensors_metadata import erasures
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.storage.location import Location

Claim = tuple[str, str]
"""Target and anchor in small letters."""


def claimed(recipe: Recipe, source: SD1Checkpoint, location: Location) -> list[Concept]:
    """The concepts that the checkpoint's metadata, or a manifest beside it, says were erased.

    That is where to look, no proof: ``holding`` measures.
    """
    claims = {*_of_metadata(source), *_of_manifest(location)}
    return [c for c in recipe.concepts if (c.target.casefold(), c.anchor.casefold()) in claims]


def leaking(recipe: Recipe, measured: ProbeRecord) -> list[Concept]:
    """The concepts whose leak is above the recipe's limit with any feed."""
    limit = recipe.limits.leak
    above = {m.concept for m in measured.leak if limit is not None and m.mean > limit}
    return [concept for concept in recipe.concepts if concept.target in above]


def holding(recipe: Recipe, source: SD1Checkpoint, concepts: Collection[Concept]) -> frozenset[str]:
    """The targets of those of ``concepts`` that mean their anchors to the checkpoint already.

    A target does where it is no further from its anchor than the recipe's limit on leak allows,
    counted in how far other words are.  Without such a limit none does.
    """
    if recipe.limits.leak is None or not concepts:
        return frozenset()
    targets = frozenset(concept.target for concept in concepts)
    some = recipe.changed(concepts=[concept.model_dump() for concept in concepts])
    found = measure_leak_and_drift(
        some, source.read, source.read, (source.rows, source.rows), targets
    )
    return targets - {concept.target for concept in leaking(some, found)}


def _of_metadata(source: SD1Checkpoint) -> Iterator[Claim]:
    for erasure in erasures(source.checkpoint.metadata):
        try:
            concepts = json.loads(erasure.get("concepts", "[]"))
            yield from [(c["target"].casefold(), c["anchor"].casefold()) for c in concepts]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # words of somebody else's, under our name


def _of_manifest(location: Location) -> Iterator[Claim]:
    """Also of a file whose metadata was made without the recipe's words."""
    manifest = manifest_beside(location)
    for concept in manifest.recipe.concepts if manifest else ():
        yield concept.target.casefold(), concept.anchor.casefold()
