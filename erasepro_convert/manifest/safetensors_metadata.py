"""What the output's safetensors metadata says: what was true of the input and still is, and more.

ModelSpec 1.0.1 fields are filled in.  Its optional ``hash_sha256`` is left out: it covers bytes
that come after the header which would hold it, so it would cost a second pass; the manifest has
that digest.  There is no date either: two identical runs give identical bytes.
"""

import json
from collections.abc import Collection, Mapping

from erasepro_convert.manifest.lora import LoraLoss
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.release import Release
from erasepro_convert.runtime.version import __version__
from erasepro_convert.storage.location import checkpoint_stem

THUMBNAIL = "modelspec.thumbnail"
"""A small picture, as a ``data:`` URI."""

STALE = (
    "modelspec.date",
    "modelspec.hash_sha256",
    THUMBNAIL,
    "sshs_legacy_hash",
    "sshs_model_hash",
)
"""Statements about the very bytes of the input, no longer true of the output; its thumbnail too,
which may show what was erased."""


HISTORY = "erasepro.history"
"""JSON list of earlier erasures of the same checkpoint, oldest first: what each said of itself."""

EMBEDDED = "erasepro.manifest"
"""What a manifest can say before the file is written: ``record.provenance``."""

CONCEPTS = "erasepro.concepts"
"""JSON list of all targets with their anchors; a private output has none."""

LICENSE = "modelspec.license"
ORIGINAL_LICENSE = "erasepro.original_license"
"""The input's licence, where the recipe states another one."""

STATEMENTS = ("version", "method", "recipe_sha256", "recipe", "concepts")


def output_metadata(
    inherited: Mapping[str, str],
    recipe: Recipe,
    variant: str,
    base: str,
    *,
    private: bool,
    embedded: str | None = None,
    thumbnail: str | None = None,
) -> dict[str, str]:
    """Metadata of the erased checkpoint; ``private`` leaves out every word of the recipe.

    ``base`` names the input, for the title of a file that has none; ``embedded`` is the
    manifest's part to carry along; ``thumbnail`` is the ``data:`` URI of a picture.
    """
    superseded = {*STALE, EMBEDDED, HISTORY, *(f"erasepro.{part}" for part in STATEMENTS)}
    kept = {key: value for key, value in inherited.items() if key not in superseded}
    if past := erasures(inherited):
        kept[HISTORY] = json.dumps(past, ensure_ascii=False)
    defaults = {
        "modelspec.implementation": "sgm",
        "modelspec.resolution": "512x512",
        "modelspec.title": f"{base}, erased" if private else f"{base}, erased: {recipe.name}",
    }
    ours = {
        "format": "pt",  # whose tensors these are: transformers refuses any other word
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": variant,
        "erasepro.version": __version__,
        "erasepro.method": recipe.method,
        "erasepro.recipe_sha256": recipe.digest,
    }
    if not private:
        concepts = [{"target": c.target, "anchor": c.anchor} for c in recipe.concepts]
        ours["erasepro.recipe"] = recipe.name
        ours[CONCEPTS] = json.dumps(concepts, ensure_ascii=False)
        if recipe.release:
            ours |= _release_fields(recipe.release)
    if (original := original_license(kept)) and ours.get(LICENSE, original) != original:
        ours[ORIGINAL_LICENSE] = original
    if embedded is not None:
        ours[EMBEDDED] = embedded
    if thumbnail is not None:
        ours[THUMBNAIL] = thumbnail
    return defaults | kept | ours


def original_license(metadata: Mapping[str, str]) -> str | None:
    """Return the licence of the first input, as metadata of it or of an output have it."""
    return metadata.get(ORIGINAL_LICENSE) or metadata.get(LICENSE)


def _release_fields(release: Release) -> dict[str, str]:
    """Return what UIs show of a release, in ModelSpec's fields."""
    fields = {
        "title": release.title,
        "description": release.description,
        "author": release.author,
        "license": release.license,
        "tags": ", ".join(release.tags),
    }
    return {f"modelspec.{name}": text for name, text in fields.items() if text}


def lora_metadata(
    recipe: Recipe,
    variant: str,
    base: str,
    base_sha256: str | None,
    loss: LoraLoss,
    *,
    ranks: Collection[int],
    alphas: Collection[int],
    private: bool,
) -> dict[str, str]:
    """Metadata of the erasure as a LoRA: what its factors lack, ModelSpec's and kohya's keys.

    ``base`` and ``base_sha256`` are the name and the digest of the input, which the LoRA is for.
    ``ranks`` and ``alphas`` are those of all factors.
    """
    stem = checkpoint_stem(base)
    ours = output_metadata({}, recipe, f"{variant}/lora", stem, private=private)
    of_base = {"ss_new_sd_model_hash": base_sha256} if base_sha256 else {}
    return {
        **ours,
        **of_base,
        "modelspec.title": f"{ours['modelspec.title']} (LoRA)",
        "erasepro.lora_loss": loss.model_dump_json(),
        "ss_base_model_version": "sd_v1",
        "ss_network_alpha": _one_of(alphas),
        "ss_network_dim": _one_of(ranks),
        "ss_network_module": "networks.lora",
        "ss_sd_model_name": base,
    }


def _one_of(numbers: Collection[int]) -> str:
    """Return the one number, or the word of sd-scripts for several."""
    return str(*numbers) if len(numbers) == 1 else "Dynamic"


def erasures(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """What a file says of each of its erasures, oldest first; none for a file of another origin.

    A history that is not ours is left out rather than believed.
    """
    try:
        past = json.loads(metadata.get(HISTORY, "[]"))
    except (ValueError, RecursionError):
        past = []
    known = [entry for entry in past if isinstance(entry, dict)] if isinstance(past, list) else []
    last = {
        part: metadata[f"erasepro.{part}"] for part in STATEMENTS if f"erasepro.{part}" in metadata
    }
    return [*known, last] if last else known
