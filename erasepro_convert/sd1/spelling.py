"""The names under which tensors of SD1.x are found, brought to one: CompVis' with ``text_model.``.

Files keep one model under three spellings: the original one, an older one of the text encoder
(NAI and its descendants), and diffusers', with the component's name in front.  A file can hold two
of them at once; what is not taken is a second copy that could bring a concept back.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache

from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import GUIDANCE, POSITION_IDS, SD1, TEXT, UNET, VAE, Key, text_keys
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys

OLD_TEXT = TEXT.removesuffix("text_model.")
OLD_TEXT_PARTS = tuple(OLD_TEXT + part for part in ("embeddings.", "encoder.", "final_layer_norm."))
OLD_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""How diffusers called the autoencoder's attention until 2023."""

OTHER_GUIDANCE = UNET + "time_embedding.cond_proj.weight"
"""How diffusers' script for single files leaves the guidance embedding, which it does not know."""

COMPONENTS = {UNET: "U-Net", VAE: "VAE", TEXT: "text encoder"}
ENCLOSING = {
    UNET: "U-Net",
    "unet.": "U-Net",
    VAE: "VAE",
    "vae.": "VAE",
    "cond_stage_model.": "text encoder",
    "text_encoder.": "text encoder",
}
"""What the names of everything inside a component begin with, known or not."""

NAMES = replace(SD1, guidance=256)
"""Widths that give every name there is."""


@dataclass(frozen=True)
class Spelling:
    """``source`` maps current names to names in the file, ``copies`` second copies to a reason.

    ``prefixes`` says for each component (U-Net, VAE, text encoder) what its names begin with.
    """

    source: dict[str, str]
    copies: dict[str, str]
    prefixes: dict[str, str]


def spelling_of(names: Collection[str]) -> Spelling:
    """Bring names to the current spelling; where a tensor has two, the original one is taken.

    Raises CheckpointError when a component stands half in one spelling and half in another.
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
    """U-Net, VAE or text encoder, for a name in any spelling; None for what is none of them."""
    current = _current(name)[2]
    return next((c for prefix, c in COMPONENTS.items() if current.startswith(prefix)), None)


def enclosing(name: str, spelling: Spelling) -> str | None:
    """The component that a tensor of any name stands inside; None for one that stands beside them.

    What has the prefix of a spelling that is not taken stands beside the component that is.
    """
    for prefix, component in ENCLOSING.items():
        taken = spelling.prefixes[component]
        if name.startswith(prefix) and (not taken or taken.startswith(prefix)):
            return component
    return None


def is_text_encoder(name: str) -> bool:
    """Whether a name in a file, in any spelling, is one of the text encoder's tensors."""
    current = _current(name)[2]
    return current.startswith(TEXT) and current in originals()


def _current(name: str) -> tuple[int, str, str]:
    """Rank of the spelling (lower is taken), the prefix that tells it, the current name."""
    if name in diffusers_names():
        return 2, name.split(".", 1)[0] + ".", diffusers_names()[name]
    if name.startswith(OLD_TEXT_PARTS):
        return 1, OLD_TEXT, TEXT + name.removeprefix(OLD_TEXT)
    for prefix in COMPONENTS:
        if name.startswith(prefix):
            return 0, prefix, GUIDANCE if name == OTHER_GUIDANCE else name
    return 0, "", name


@cache
def originals() -> frozenset[str]:
    """The current name of every tensor that a component of SD1.x can have."""
    keys = (*unet_keys(NAMES), *vae_keys(NAMES), *text_keys(NAMES))
    return frozenset({POSITION_IDS, *(key.original for key in keys)})


@cache
def diffusers_names() -> dict[str, str]:
    """Current name by diffusers' name with its component in front, in each of its variants."""
    return {
        f"{component}.{name}": key.original
        for component, keys in (
            ("unet", unet_keys(NAMES)),
            ("vae", vae_keys(NAMES)),
            ("text_encoder", [*text_keys(NAMES), Key(POSITION_IDS, _POSITION_IDS, ())]),
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
