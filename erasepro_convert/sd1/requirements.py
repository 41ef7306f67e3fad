"""Requirements on the tensors of an SD1.x checkpoint, which are given by their current names."""

from collections.abc import Mapping
from itertools import count

from erasepro_convert.checkpoint.tensor_info import Shape, TensorInfo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import FLOATING_DTYPES, SD1_DTYPES
from erasepro_convert.sd1.keys import (
    EMA_COUNTERS,
    POSITION_EMBEDDING,
    POSITION_IDS,
    POSITIONS,
    PREDICTION_MARKERS,
    TEXT,
    TEXT_LAYERS,
    TOKEN_EMBEDDING,
    VOCABULARY,
    Key,
)
from erasepro_convert.sd1.unet import cross_attentions
from erasepro_convert.sd1.vae import is_kept_as_matrix

PACKED_BY = {"U32": ", as MLX packs weights", "U8": ", as bitsandbytes packs weights"}
"""dtypes of packed weights, and the end of the sentence on them."""
NO_WEIGHTS = {POSITION_IDS, *EMA_COUNTERS, *PREDICTION_MARKERS}
"""Tensors that hold no weights, and are copied or written anew."""
COPIED_DTYPES = (*SD1_DTYPES, "F8_E4M3", "F8_E5M2")
"""The dtypes that a tensor without weights may have."""


def require_editable(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError for quantised tensors.

    This comes before any check of shapes, since quantised tensors are packed into other shapes.
    """
    for name, info in tensors.items():
        if info.dtype not in (COPIED_DTYPES if name in NO_WEIGHTS else FLOATING_DTYPES):
            raise CheckpointError(
                f"{name} is stored as {info.dtype}{PACKED_BY.get(info.dtype, '')}: quantised "
                "checkpoints can't be edited; give the fp16, bf16 or fp32 original"
            )


def require_cross_attention(known: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError for a U-Net without some of SD1.x's cross-attention blocks."""
    attentions = cross_attentions()
    present = sum(attention.to_k in known for attention in attentions)
    if present < len(attentions):
        raise CheckpointError(
            f"not a Stable Diffusion 1.x checkpoint: its U-Net has {present} of SD1.x's "
            f"{len(attentions)} cross-attention blocks (is it a distilled model?)"
        )


def require_plain_text_encoder(known: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError for a text encoder of another number of layers, tokens or positions."""
    layers = next(n for n in count() if f"{TEXT}encoder.layers.{n}.layer_norm1.weight" not in known)
    if layers < TEXT_LAYERS and not any(
        name.startswith(f"{TEXT}encoder.layers.{layers}.") for name in known
    ):
        raise CheckpointError(
            f"its text encoder was saved with its first {layers} of {TEXT_LAYERS} layers, as tools "
            "do that take clip skip into the file; other UIs need all of them, so take it from the "
            "model's original (a diffusers folder says clip skip 2 by num_hidden_layers 11 in "
            "text_encoder/config.json, with all layers stored)"
        )
    tokens, positions = known.get(TOKEN_EMBEDDING), known.get(POSITION_EMBEDDING)
    if tokens and len(tokens.shape) == 2 and tokens.shape[0] > VOCABULARY:
        raise CheckpointError(
            f"its text encoder has {tokens.shape[0]} tokens, {tokens.shape[0] - VOCABULARY} more "
            f"than CLIP's {VOCABULARY}, as training of new words (textual inversion) adds them: no "
            f"UI loads such a checkpoint; cut {TOKEN_EMBEDDING} to its first {VOCABULARY} rows, "
            "and keep the others as an embedding"
        )
    if positions and len(positions.shape) == 2 and positions.shape[0] > POSITIONS:
        raise CheckpointError(
            f"its text encoder reads prompts of {positions.shape[0]} tokens (Long-CLIP), SD1.x's "
            f"reads {POSITIONS}; give the checkpoint with the text encoder that it came with"
        )


def require_complete(table: list[Key], known: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError if a tensor of the key table is missing."""
    missing = [key.original for key in table if key.original not in known]
    if missing:
        raise CheckpointError(
            f"not a complete Stable Diffusion 1.x checkpoint: {len(missing)} of {len(table)} "
            f"tensors are missing, the first one is {missing[0]}"
        )


def require_ema(copies: Mapping[str, Key], known: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError if a tensor of the EMA copy is missing."""
    missing = [name for name in copies if name not in known]
    if len(missing) == len(copies):
        raise CheckpointError("it has no EMA copy of the U-Net that --ema could use")
    if missing:
        raise CheckpointError(
            f"its EMA copy of the U-Net lacks {len(missing)} of {len(copies)} tensors, "
            f"the first one is {missing[0]}; --ema drop leaves the copy out"
        )


def require_shapes_and_dtypes(planned: Mapping[str, tuple[TensorInfo, Shape]]) -> None:
    """Raise CheckpointError if a tensor has not its planned shape, or a dtype to edit or copy."""
    for name, (info, shape) in planned.items():
        if info.shape != shape and not is_kept_as_matrix(name, info.shape, shape):
            found, expected = list(info.shape), list(shape)
            raise CheckpointError(
                f"{name} has shape {found}; the rest of this checkpoint asks for {expected}"
            )
    require_editable({name: info for name, (info, _) in planned.items()})
