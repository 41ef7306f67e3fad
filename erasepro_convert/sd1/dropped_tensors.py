"""Decide which tensors are dropped: the reason for each, and the refusal of unknown ones.

Tensors beside the parts of a model are dropped, since no loader of SD1.x reads them.  A tensor
inside a part may be read by a loader that knows it, so dropping it would make another model: a file
with an unknown one is refused.
"""

import re
from collections.abc import Collection, Mapping

from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import EMA, EMA_COUNTERS, VAE
from erasepro_convert.sd1.other_models import name_inside
from erasepro_convert.sd1.spelling import Spelling, enclosing_component

CONCEPT_CARRIERS = (
    # (a prefix of names, what the tensors are): they could bring a concept back if they were kept
    ("control_model.", "a ControlNet inside the file"),
    ("lora_", "a LoRA inside the file"),
    ("embedding_manager.", "textual-inversion embeddings inside the file"),
)
UNREAD = "no SD1.x loader reads it"
EMA_COPY = "EMA copy of the U-Net: unedited, it would bring the concept back"
NO_EMA_COPY = "an EMA entry that is no copy of a U-Net tensor"
REPLACED_BY_EMA = "the U-Net that the EMA copy takes the place of"
"""Reasons why a tensor is dropped."""

_CLIP = r"^(cond_stage_model\.(transformer\.)?|text_encoder\.)"
UNUSED_PARTS = (
    # (a regular expression, what it is): tensors inside a part that generation does not use
    (
        _CLIP + r"(text_model\.)?(text_projection(\.weight|\.bias)?|logit_scale)$",
        "CLIP's comparison with pictures, which SD1.x has no use for",
    ),
    (
        _CLIP + r"(vision_model|visual_projection)\.",
        "CLIP's half for pictures, which SD1.x has no use for",
    ),
    (
        rf"^({re.escape(VAE)}|vae\.)(loss|model_ema)\.",
        "training state of the VAE, which drawing has no use for",
    ),
)


def drop_reasons(
    spelling: Spelling, taken: Collection[str], copies: Mapping[str, object]
) -> dict[str, str]:
    """Return the reason why each tensor that is not ``taken`` is dropped, by its name in the file.

    ``copies`` holds the names of an EMA copy of the U-Net, whether it is there or not.

    Raises CheckpointError for a tensor inside a part that is not known to be unused.
    """
    reasons: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    has_copy = any(name in spelling.source for name in copies)
    for name, input_name in spelling.source.items():
        if input_name in taken:
            continue
        belongs_to_copy = name in copies or name in EMA_COUNTERS
        reason = _known_reason(name, is_ema_copy=has_copy and belongs_to_copy)
        part = enclosing_component(input_name, spelling)
        if reason is None and part:
            unknown.setdefault(part, []).append(input_name)
        reasons[input_name] = reason or UNREAD
    if unknown:
        raise CheckpointError(_refusal(unknown))
    return reasons | spelling.copies


def _known_reason(name: str, *, is_ema_copy: bool) -> str | None:
    """Return why a tensor of this name is dropped; None where its name says nothing."""
    if name.startswith(EMA):
        return EMA_COPY if is_ema_copy else NO_EMA_COPY
    for prefix, reason in CONCEPT_CARRIERS:
        if name.startswith(prefix):
            return reason
    for pattern, reason in UNUSED_PARTS:
        if re.search(pattern, name):
            return reason
    return None


def _refusal(unknown: Mapping[str, list[str]]) -> str:
    """Say why a file with unknown tensors in a part is refused; name one that tells most."""
    part, names = next(iter(unknown.items()))
    telling = next(((name, what) for name in names if (what := name_inside(name))), None)
    example, what = telling or (names[0], "what it does is unknown")
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"not a plain Stable Diffusion 1.x checkpoint: its {part} holds {example}{more}, which "
        f"SD1.x's does not have ({what}), and without which this would be another model; give the "
        "checkpoint that has it merged into its weights, or is without it"
    )
