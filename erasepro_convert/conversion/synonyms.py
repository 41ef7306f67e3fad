"""Synonyms that a checkpoint is asked for: words that mean the same to it become targets too."""

from collections.abc import Mapping

from erasepro_convert.manifest import Synonym
from erasepro_convert.probing.neighbours import find_synonyms
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.sd1_weights import SD1Weights

Found = Mapping[str, tuple[Synonym, ...]]
"""For each target its synonyms, nearest first."""


def with_synonyms(recipe: Recipe, base: SD1Weights, progress: Progress) -> tuple[Recipe, Found]:
    """Return the recipe with the synonyms that it asks for as concepts, and what was found.

    A word that is a target already is not added again.
    """
    asking = [concept for concept in recipe.concepts if concept.synonyms == "auto"]
    if not asking:
        return recipe, {}

    def report(done: int, total: int) -> None:
        progress("vocabulary", done, total)

    found = find_synonyms(base, [(c.target, c.anchor) for c in asking], report)
    taken = {concept.target.casefold() for concept in recipe.concepts}
    concepts = []
    for concept in recipe.concepts:
        new = [word for word in found.get(concept.target, {}) if word not in taken]
        taken.update(new)
        listed = {"synonyms": new} if concept.synonyms else {}
        concepts.append({**concept.model_dump(), **listed})
    records = {
        target: tuple(Synonym(word=word, distance=share) for word, share in words.items())
        for target, words in found.items()
    }
    return recipe.changed(concepts=concepts), records
