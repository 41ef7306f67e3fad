"""Decide which SD1.x variant a checkpoint is, and which of its tensors are written or dropped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from erasepro_convert.checkpoint.tensor_info import Shape, TensorInfo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import FLOATING_DTYPES, SD1_DTYPES
from erasepro_convert.sd1.dropped_tensors import REPLACED_BY_EMA, drop_reasons
from erasepro_convert.sd1.keys import (
    EMA,
    EMA_COUNTERS,
    GUIDANCE_EMBEDDING,
    POSITION_EMBEDDING,
    POSITION_IDS,
    POSITIONS,
    PREDICTION_MARKERS,
    SCHEDULE_BUFFERS,
    SCHEDULE_STEPS,
    TEXT,
    TEXT_HEADS,
    TEXT_LAYERS,
    TOKEN_EMBEDDING,
    UNET,
    VAE,
    VOCABULARY,
    Key,
    Widths,
    text_keys,
)
from erasepro_convert.sd1.other_models import name_addition, name_other_model, name_part
from erasepro_convert.sd1.spelling import Spelling, original_names, resolve_spelling
from erasepro_convert.sd1.unet import cross_attentions, ema_name, unet_keys
from erasepro_convert.sd1.vae import is_kept_as_matrix, vae_keys

VARIANTS = {
    4: "stable-diffusion-v1",
    9: "stable-diffusion-v1-inpainting",
    8: "stable-diffusion-v1-instruct-pix2pix",
}
"""The ModelSpec architecture, by the number of U-Net input channels."""

Ema = Literal["drop", "convert", "use"]
"""What to do with an EMA copy of the U-Net: leave it out, edit it too, or use it as the U-Net."""

OTHER_WIDTHS = {1024: "as Stable Diffusion 2.x does", 2048: "as SDXL does"}
"""Widths of text features that U-Nets of other models take."""

PACKED_BY = {"U32": ", as MLX packs weights", "U8": ", as bitsandbytes packs weights"}
FIRST_CONVOLUTION = UNET + "input_blocks.0.0.weight"
NO_WEIGHTS = {POSITION_IDS, *EMA_COUNTERS, *PREDICTION_MARKERS}
COPIED_DTYPES = (*SD1_DTYPES, "F8_E4M3", "F8_E5M2")
"""The dtypes that a tensor without weights may have."""


@dataclass(frozen=True)
class Layout:
    """What a checkpoint is: its variant, evidence and widths, and the plan for its tensors.

    ``source`` maps the name of each tensor that is written to its name in the input; ``shapes``
    maps it to the shape that is written.  ``dropped`` maps the input name of each other tensor to
    the reason why it is not written.  ``ema`` says what to do with the EMA copy; it is None where
    there is no copy.
    """

    variant: str
    evidence: tuple[str, ...]
    widths: Widths
    source: Mapping[str, str]
    shapes: Mapping[str, Shape]
    dropped: Mapping[str, str]
    ema: Ema | None

    @property
    def renamed(self) -> dict[str, str]:
        """The tensors whose name changes: input name to output name."""
        return {old: new for new, old in self.source.items() if old != new}

    def with_ema_as_unet(self) -> "Layout":
        """This layout with the EMA copy read as the U-Net; ``ema`` must be convert."""
        copies = {k.original: self.source[ema_name(k.original)] for k in unet_keys(self.widths)}
        return replace(self, source={**self.source, **copies})


def identify(tensors: Mapping[str, TensorInfo], ema: Ema = "drop") -> Layout:
    """Recognise an SD1.x checkpoint by its tensor names, shapes and dtypes.

    Raises CheckpointError when it is not SD1.x (the message names the model), when a U-Net or
    text-encoder tensor is missing, when an EMA copy that ``ema`` needs is missing, when a shape
    contradicts the others, or when a dtype cannot be edited.
    """
    spelling = resolve_spelling(tensors)
    known = {name: tensors[old] for name, old in spelling.source.items()}
    if FIRST_CONVOLUTION not in known or TEXT + "final_layer_norm.weight" not in known:
        raise CheckpointError(_describe_other_file(known))
    _require_editable({name: known[name] for name in original_names() if name in known})
    _require_cross_attention(known)
    widths = _read_widths(known)
    _require_plain_text_encoder(known)
    has_vae = any(widths.vae)
    table = [*unet_keys(widths), *text_keys(widths)] + (list(vae_keys(widths)) if has_vae else [])
    _require_complete(table, known)
    shapes = {key.original: key.shape for key in table} | _optional_shapes(known)
    copies = {ema_name(key.original): key for key in unet_keys(widths)}
    has_ema = any(name in known for name in copies)
    source = {name: spelling.source[name] for name in shapes}
    if ema == "use" or (ema == "convert" and has_ema):
        _require_ema(copies, known)
        if ema == "use":
            source |= {key.original: name for name, key in copies.items()}
        else:
            shapes |= {name: key.shape for name, key in copies.items()}
            shapes |= {name: () for name in EMA_COUNTERS if name in known}
            source |= {name: spelling.source[name] for name in shapes if name.startswith(EMA)}
    _require_shapes_and_dtypes({name: (tensors[old], shapes[name]) for name, old in source.items()})
    taken = set(source.values())
    replaced = {spelling.source[name] for name in shapes} - taken
    dropped = drop_reasons(spelling, taken | replaced, copies) | dict.fromkeys(
        replaced, REPLACED_BY_EMA
    )
    dropped = {old: _with_dtype(reason, tensors[old]) for old, reason in dropped.items()}
    return Layout(
        variant=VARIANTS[widths.in_channels],
        evidence=tuple(_evidence(widths, spelling, has_vae, has_ema)),
        widths=widths,
        source=source,
        shapes=shapes,
        dropped=dropped,
        ema=ema if has_ema else None,
    )


def _describe_other_file(known: Mapping[str, TensorInfo]) -> str:
    """Say what a file is that lacks the U-Net's first layer or the text encoder's last one."""
    other = name_other_model(known)
    if other is None and FIRST_CONVOLUTION not in known:
        other = name_addition(known)
    has_unet = any(name.startswith(UNET) for name in known)
    if other is None and not has_unet:
        other = name_part(known)
    if other is not None:
        return f"not a Stable Diffusion 1.x checkpoint: {other}"
    if has_unet and TEXT + "final_layer_norm.weight" not in known:
        return (
            "the text encoder is missing (no cond_stage_model.transformer.* tensors): erasure "
            "starts there; --text-encoder FILE takes it from the checkpoint that this U-Net was "
            "trained with, or from CLIP ViT-L/14"
        )
    if has_unet:
        return (
            f"not a complete Stable Diffusion 1.x checkpoint: its U-Net has no {FIRST_CONVOLUTION}"
        )
    examples = ", ".join(sorted(known)[:3]) or "no tensors at all"
    return f"not a Stable Diffusion 1.x checkpoint: no U-Net ({UNET}*) in it; it holds {examples}"


def _require_editable(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError for quantised tensors.

    This comes before any check of shapes, since quantised tensors are packed into other shapes.
    """
    for name, info in tensors.items():
        if info.dtype not in (COPIED_DTYPES if name in NO_WEIGHTS else FLOATING_DTYPES):
            raise CheckpointError(
                f"{name} is stored as {info.dtype}{PACKED_BY.get(info.dtype, '')}: quantised "
                "checkpoints can't be edited; give the fp16, bf16 or fp32 original"
            )


def _require_cross_attention(known: Mapping[str, TensorInfo]) -> None:
    attentions = cross_attentions()
    present = sum(attention.to_k in known for attention in attentions)
    if present < len(attentions):
        raise CheckpointError(
            f"not a Stable Diffusion 1.x checkpoint: its U-Net has {present} of SD1.x's "
            f"{len(attentions)} cross-attention blocks (is it a distilled model?)"
        )


def _read_widths(known: Mapping[str, TensorInfo]) -> Widths:
    def size(name: str, axis: int = 0) -> int:
        shape = known[name].shape if name in known else ()
        if axis >= len(shape):
            what = f"shape {list(shape)}" if name in known else "missing"
            raise CheckpointError(f"not a Stable Diffusion 1.x checkpoint: {name} is {what}")
        return shape[axis]

    def levels(pattern: str) -> tuple[int, int, int, int]:
        a, b, c, d = (size(pattern.format(i, 3 * i + 1)) for i in range(4))
        return a, b, c, d

    first_key = cross_attentions()[0].to_k
    text = size(TEXT + "final_layer_norm.weight")
    context = size(first_key, 1)
    if context != text or context in OTHER_WIDTHS:
        model = f" ({OTHER_WIDTHS[context]})" if context in OTHER_WIDTHS else ""
        raise CheckpointError(
            f"not a Stable Diffusion 1.x checkpoint: its U-Net takes text features of width "
            f"{context}{model} in {first_key}, its text encoder gives {text}"
        )
    if text % TEXT_HEADS or not text:
        raise CheckpointError(f"text width {text} is not a multiple of CLIP's {TEXT_HEADS} heads")
    has_vae = any(name.startswith(VAE) for name in known)
    widths = Widths(
        unet=levels(UNET + "input_blocks.{1}.0.out_layers.3.bias"),
        time=size(UNET + "time_embed.0.bias"),
        in_channels=size(FIRST_CONVOLUTION, 1),
        vae=levels(VAE + "encoder.down.{0}.block.0.conv1.bias") if has_vae else (0, 0, 0, 0),
        text=text,
        mlp=size(TEXT + "encoder.layers.0.mlp.fc1.bias"),
        guidance=size(GUIDANCE_EMBEDDING, 1) if GUIDANCE_EMBEDDING in known else 0,
    )
    if widths.in_channels not in VARIANTS:
        known_counts = ", ".join(f"{n} ({name})" for n, name in VARIANTS.items())
        raise CheckpointError(
            f"its U-Net takes {widths.in_channels} input channels; SD1.x models take {known_counts}"
        )
    if not all((*widths.unet, widths.time, widths.mlp, *(widths.vae if has_vae else ()))):
        raise CheckpointError("not a Stable Diffusion 1.x checkpoint: its layers have no width")
    return widths


def _require_plain_text_encoder(known: Mapping[str, TensorInfo]) -> None:
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


def _require_complete(table: list[Key], known: Mapping[str, TensorInfo]) -> None:
    missing = [key.original for key in table if key.original not in known]
    if missing:
        raise CheckpointError(
            f"not a complete Stable Diffusion 1.x checkpoint: {len(missing)} of {len(table)} "
            f"tensors are missing, the first one is {missing[0]}"
        )


def _optional_shapes(known: Mapping[str, TensorInfo]) -> dict[str, Shape]:
    """Shapes of the optional tensors that are there; some loaders read them, so they are copied."""
    shapes: dict[str, Shape] = {POSITION_IDS: (1, POSITIONS)}
    shapes |= dict.fromkeys(SCHEDULE_BUFFERS, (SCHEDULE_STEPS,))
    shapes |= dict.fromkeys(PREDICTION_MARKERS, (0,))
    return {name: shape for name, shape in shapes.items() if name in known}


def _require_ema(copies: Mapping[str, Key], known: Mapping[str, TensorInfo]) -> None:
    missing = [name for name in copies if name not in known]
    if len(missing) == len(copies):
        raise CheckpointError("it has no EMA copy of the U-Net that --ema could use")
    if missing:
        raise CheckpointError(
            f"its EMA copy of the U-Net lacks {len(missing)} of {len(copies)} tensors, "
            f"the first one is {missing[0]}; --ema drop leaves the copy out"
        )


def _require_shapes_and_dtypes(planned: Mapping[str, tuple[TensorInfo, Shape]]) -> None:
    for name, (info, shape) in planned.items():
        if info.shape != shape and not is_kept_as_matrix(name, info.shape, shape):
            found, expected = list(info.shape), list(shape)
            raise CheckpointError(
                f"{name} has shape {found}; the rest of this checkpoint asks for {expected}"
            )
    _require_editable({name: info for name, (info, _) in planned.items()})


def _evidence(w: Widths, spelling: Spelling, has_vae: bool, has_ema: bool) -> Iterator[str]:
    def under(component: str) -> str:
        return f"under {spelling.prefixes[component]}"

    unet, text, vae = (len(list(keys(w))) for keys in (unet_keys, text_keys, vae_keys))
    widths = "/".join(map(str, w.unet))
    yield f"U-Net: all {unet} tensors {under('U-Net')}, widths {widths}"
    yield f"U-Net input channels: {w.in_channels}"
    yield f"cross-attention: 16 blocks, text width {w.text}"
    yield f"text encoder: all {text} tensors {under('text encoder')}, 12 layers"
    yield f"VAE: all {vae} tensors {under('VAE')}" if has_vae else "VAE: none"
    if w.guidance:
        yield f"U-Net guidance embedding: width {w.guidance} (a latent consistency model, LCM)"
    if has_ema:
        yield f"EMA: a copy of the U-Net under {EMA}"


def _with_dtype(reason: str, info: TensorInfo) -> str:
    """The reason why a tensor is left out, with its dtype if SD1.x never has that dtype."""
    return reason if info.dtype in SD1_DTYPES else f"{reason} (stored as {info.dtype})"
