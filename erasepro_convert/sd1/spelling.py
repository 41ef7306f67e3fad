"""Map every spelling of SD1.x's tensor names to one: CompVis' names with ``text_model.``.

There are three spellings: the original one, an older one of the text encoder (NAI and models made
from it), and diffusers' names with the component's name before them.  A file can hold two spellings
of a tensor; the second one is a copy that could bring a concept back, so it is not kept.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache

from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import (
    GUIDANCE_EMBEDDING,
    POSITION_IDS,
    SD1,
    TEXT,
    UNET,
    VAE,
    Key,
    text_keys,
)
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys

OLD_TEXT = TEXT.removesuffix("text_model.")
OLD_TEXT_PARTS = tuple(OLD_TEXT + part for part in ("embeddings.", "encoder.", "final_layer_norm."))
OLD_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""The parts of the autoencoder's attention, and their names in diffusers until 2023."""

OTHER_GUIDANCE = UNET + "time_embedding.cond_proj.weight"
"""The name that diffusers' script for single files gives the guidance embedding."""

COMPONENTS = {UNET: "U-Net", VAE: "VAE", TEXT: "text encoder"}
COMPONENT_PREFIXES = {
    UNET: "U-Net",
    "unet.": "U-Net",
    VAE: "VAE",
    "vae.": "VAE",
    "cond_stage_model.": "text encoder",
    "text_encoder.": "text encoder",
}
"""Prefixes of all names inside a component, also of unknown ones."""

ALL_TENSORS = replace(SD1, guidance=256)
"""Widths of a model with every tensor that SD1.x can have, used for names alone."""


@dataclass(frozen=True)
class Spelling:
    """How a file spells the names of its tensors.

    ``source`` maps current names to names in the file; ``copies`` maps second copies to the reason
    why they are dropped.  ``prefixes`` maps each component (U-Net, VAE, text encoder) to the prefix
    of its names in the file.
    """

    source: dict[str, str]
    copies: dict[str, str]
    prefixes: dict[str, str]


def resolve_spelling(names: Collection[str]) -> Spelling:
    """Map names to the current spelling; where a tensor has two names, the original one is taken.

    Raises CheckpointError when one component mixes two spellings.
    """
    found: dict[str, list[tuple[int, str, str]]] = {}
    for name in names:
        rank, prefix, current = _current(name)
        found.setdefault(current, []).append((rank, prefix, name))
    source: dict[str, str] = {}
    copies: dict[str, str] = {}
    prefixes: dict[str, set[str]] = {component: set() for component in COMPONENTS.values()}
    for current, candidates in found.items():
        (_, prefix, name), *others = sorted(candidates)
        source[current] = name
        component = component_of(name)
        if component and prefix and current != POSITION_IDS:
            prefixes[component].add(prefix)
        copies |= {other: f"second copy of the {component}" for _, _, other in others}
    for component, several in prefixes.items():
        if len(several) > 1:
            raise CheckpointError(
                f"its {component} stands half under {' and half under '.join(sorted(several))}"
            )
    return Spelling(source, copies, {c: next(iter(p), "") for c, p in prefixes.items()})


def component_of(name: str) -> str | None:
    """Return the component (U-Net, VAE, text encoder) of a name in any spelling, else None."""
    current = _current(name)[2]
    return next((c for prefix, c in COMPONENTS.items() if current.startswith(prefix)), None)


def enclosing_component(name: str, spelling: Spelling) -> str | None:
    """Return the component whose prefix a name has, known or not; None for a name outside of all.

    A name with the prefix of a spelling that the file's component does not use is outside of it.
    """
    for prefix, component in COMPONENT_PREFIXES.items():
        taken = spelling.prefixes[component]
        if name.startswith(prefix) and (not taken or taken.startswith(prefix)):
            return component
    return None


def is_text_encoder(name: str) -> bool:
    """Whether a name in a file, in any spelling, is one of the text encoder's tensors."""
    current = _current(name)[2]
    return current.startswith(TEXT) and current in original_names()


def _current(name: str) -> tuple[int, str, str]:
    """Return the rank of the spelling (the lowest is taken), its prefix, and the current name."""
    if name in diffusers_names():
        return 2, name.split(".", 1)[0] + ".", diffusers_names()[name]
    if name.startswith(OLD_TEXT_PARTS):
        return 1, OLD_TEXT, TEXT + name.removeprefix(OLD_TEXT)
    for prefix in COMPONENTS:
        if name.startswith(prefix):
            return 0, prefix, GUIDANCE_EMBEDDING if name == OTHER_GUIDANCE else name
    return 0, "", name


@cache
def original_names() -> frozenset[str]:
    """Return the current names of all tensors that a component of SD1.x can have."""
    keys = (*unet_keys(ALL_TENSORS), *vae_keys(ALL_TENSORS), *text_keys(ALL_TENSORS))
    return frozenset({POSITION_IDS, *(key.original for key in keys)})


@cache
def diffusers_names() -> dict[str, str]:
    """Map each variant of diffusers' names, with the component before it, to the current name."""
    return {
        f"{component}.{name}": key.original
        for component, keys in (
            ("unet", unet_keys(ALL_TENSORS)),
            ("vae", vae_keys(ALL_TENSORS)),
            ("text_encoder", [*text_keys(ALL_TENSORS), Key(POSITION_IDS, _POSITION_IDS, ())]),
        )
        for key in keys
        for name in _variants(component, key)
    }


_POSITION_IDS = POSITION_IDS.removeprefix(OLD_TEXT)


def _variants(component: str, key: Key) -> Iterator[str]:
    yield key.diffusers
    if component == "text_encoder":  # transformers 5 dropped the "text_model."
        yield key.diffusers.removeprefix("text_model.")
    if component == "vae" and ".attentions." in key.diffusers:
        for new, old in OLD_VAE_ATTENTION.items():
            if f".{new}." in key.diffusers:
                yield key.diffusers.replace(new, old)
