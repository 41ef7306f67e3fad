"""What the output's safetensors metadata says: what was true of the input and still is, and more.

ModelSpec 1.0.1 fields are filled in.  Its optional ``hash_sha256`` is left out: it covers bytes
that come after the header which would hold it, so it would cost a second pass; the manifest has
that digest.  There is no date either: two identical runs give identical bytes.
"""

import json
from collections.abc import Mapping

from erasepro_convert import __version__
from erasepro_convert.recipe import Recipe

STALE = (
    "modelspec.date",
    "modelspec.hash_sha256",
    "sshs_legacy_hash",
    "sshs_model_hash",
)
"""Statements about the very bytes of the input, no longer true of the output."""


def output_metadata(
    inherited: Mapping[str, str], recipe: Recipe, variant: str, base: str, *, private: bool
) -> dict[str, str]:
    """Metadata of the erased checkpoint; ``private`` leaves out every word of the recipe.

    ``base`` names the input, for the title of a file that has none.
    """
    kept = {key: value for key, value in inherited.items() if key not in STALE}
    defaults = {
        "format": "pt",
        "modelspec.implementation": "sgm",
        "modelspec.resolution": "512x512",
        "modelspec.title": f"{base}, erased" if private else f"{base}, erased: {recipe.name}",
    }
    ours = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": variant,
        "erasepro.version": __version__,
        "erasepro.method": recipe.method,
        "erasepro.recipe_sha256": recipe.digest,
    }
    if not private:
        concepts = [{"target": c.target, "anchor": c.anchor} for c in recipe.concepts]
        ours["erasepro.recipe"] = recipe.name
        ours["erasepro.concepts"] = json.dumps(concepts, ensure_ascii=False)
    return defaults | kept | ours
