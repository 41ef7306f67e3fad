"""Decide once which SD1.x variant a checkpoint is, and what becomes of each of its tensors."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from erasepro_convert.checkpoint.tensors import Shape, TensorInfo
from erasepro_convert.dtypes import FLOATING
from erasepro_convert.errors import CheckpointError
from erasepro_convert.layout.foreign import name_foreign
from erasepro_convert.layout.keys import (
    EMA,
    POSITION_IDS,
    POSITIONS,
    PREDICTION_MARKERS,
    SCHEDULE_BUFFERS,
    SCHEDULE_STEPS,
    TEXT,
    TEXT_HEADS,
    UNET,
    VAE,
    Key,
    Widths,
    text_keys,
)
from erasepro_convert.layout.unet import cross_attentions, ema_name, unet_keys
from erasepro_convert.layout.vae import vae_keys

OLD_TEXT = TEXT.removesuffix("text_model.")
"""The older spelling of the text encoder, found in early and NAI-derived files."""

VARIANTS = {
    4: "stable-diffusion-v1",
    9: "stable-diffusion-v1-inpainting",
    8: "stable-diffusion-v1-instruct-pix2pix",
}
"""ModelSpec architecture by the number of U-Net input channels."""


@dataclass(frozen=True)
class Layout:
    """What a checkpoint is: variant, evidence, widths, and the plan for its tensors.

    ``source`` maps each tensor to write (its current original name) to its name in the input;
    ``dropped`` maps each of the others to the reason why it is not written.
    """

    variant: str
    evidence: tuple[str, ...]
    widths: Widths
    source: Mapping[str, str]
    dropped: Mapping[str, str]

    @property
    def renamed(self) -> dict[str, str]:
        """Tensors whose name changes: input name to output name."""
        return {old: new for new, old in self.source.items() if old != new}


def identify(tensors: Mapping[str, TensorInfo]) -> Layout:
    """Recognise an SD1.x checkpoint by its tensor names, shapes and dtypes.

    Raises CheckpointError, naming the model, when it is not SD1.x; when a U-Net or text-encoder
    tensor is missing; when a shape contradicts the others; when a dtype cannot be edited.
    """
    spelling = _text_spelling(tensors)
    if spelling is None or UNET + "input_blocks.0.0.weight" not in tensors:
        raise CheckpointError(_not_sd1(tensors))
    renames = _respell_all(tensors, spelling)
    known = {name: tensors[old] for name, old in renames.items()}
    _require_cross_attention(known)
    widths = _read_widths(known)
    has_vae = any(widths.vae)
    table = [*unet_keys(widths), *text_keys(widths)] + (list(vae_keys(widths)) if has_vae else [])
    _require_complete(table, known)
    shapes = {key.original: key.shape for key in table} | _optional_shapes(known)
    _check(shapes, known)
    ema = {ema_name(key.original) for key in unet_keys(widths)}
    ema |= {EMA + "decay", EMA + "num_updates"}
    return Layout(
        variant=VARIANTS[widths.in_channels],
        evidence=tuple(_evidence(widths, spelling, has_vae)),
        widths=widths,
        source={name: renames[name] for name in shapes},
        dropped={
            old: _drop_reason(old, ema) for name, old in renames.items() if name not in shapes
        },
    )


def _text_spelling(names: Collection[str]) -> str | None:
    """The prefix under which the text encoder stands; the current one when both are there."""
    for prefix in (TEXT, OLD_TEXT):
        if prefix + "final_layer_norm.weight" in names:
            return prefix
    return None


def _respell_all(names: Collection[str], spelling: str) -> dict[str, str]:
    """Current name of each tensor, mapped to its name in the file."""
    renames: dict[str, str] = {}
    for name in names:
        current = _respell(name, spelling)
        if current in renames:
            raise CheckpointError(f"the text encoder stands in two spellings at once: {current}")
        renames[current] = name
    return renames


def _respell(name: str, spelling: str) -> str:
    """Move a text-encoder name from the old spelling, where that is the one in use."""
    if spelling == OLD_TEXT and _is_old_text(name):
        return TEXT + name.removeprefix(OLD_TEXT)
    return name


def _is_old_text(name: str) -> bool:
    parts = ("embeddings.", "encoder.", "final_layer_norm.")
    return name.startswith(tuple(OLD_TEXT + part for part in parts))


def _not_sd1(names: Collection[str]) -> str:
    foreign = name_foreign(names)
    if foreign is not None:
        return f"not a Stable Diffusion 1.x checkpoint: {foreign}"
    if any(name.startswith(UNET) for name in names):
        return (
            "the text encoder is missing (no cond_stage_model.transformer.* tensors): "
            "erasure starts there, so give a checkpoint that includes it"
        )
    examples = ", ".join(sorted(names)[:3]) or "no tensors at all"
    return f"not a Stable Diffusion 1.x checkpoint: no U-Net ({UNET}*) in it; it holds {examples}"


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
    if context != text:
        model = " (Stable Diffusion 2.x has 1024)" if context == 1024 else ""
        raise CheckpointError(
            f"not a Stable Diffusion 1.x checkpoint: its U-Net takes text features of width "
            f"{context}{model}, its text encoder gives {text}"
        )
    if text % TEXT_HEADS:
        raise CheckpointError(f"text width {text} is not a multiple of CLIP's {TEXT_HEADS} heads")
    has_vae = any(name.startswith(VAE) for name in known)
    widths = Widths(
        unet=levels(UNET + "input_blocks.{1}.0.out_layers.3.bias"),
        time=size(UNET + "time_embed.0.bias"),
        in_channels=size(UNET + "input_blocks.0.0.weight", 1),
        vae=levels(VAE + "encoder.down.{0}.block.0.conv1.bias") if has_vae else (0, 0, 0, 0),
        text=text,
        mlp=size(TEXT + "encoder.layers.0.mlp.fc1.bias"),
    )
    if widths.in_channels not in VARIANTS:
        known_counts = ", ".join(f"{n} ({name})" for n, name in VARIANTS.items())
        raise CheckpointError(
            f"its U-Net takes {widths.in_channels} input channels; SD1.x models take {known_counts}"
        )
    return widths


def _require_complete(table: list[Key], known: Mapping[str, TensorInfo]) -> None:
    missing = [key.original for key in table if key.original not in known]
    if missing:
        raise CheckpointError(
            f"not a complete Stable Diffusion 1.x checkpoint: {len(missing)} of {len(table)} "
            f"tensors are missing, the first one is {missing[0]}"
        )


def _optional_shapes(known: Mapping[str, TensorInfo]) -> dict[str, Shape]:
    """Tensors that some SD1.x files carry and their loaders read; copied when there."""
    shapes: dict[str, Shape] = {POSITION_IDS: (1, POSITIONS)}
    shapes |= dict.fromkeys(SCHEDULE_BUFFERS, (SCHEDULE_STEPS,))
    shapes |= dict.fromkeys(PREDICTION_MARKERS, (0,))
    return {name: shape for name, shape in shapes.items() if name in known}


def _check(shapes: Mapping[str, Shape], known: Mapping[str, TensorInfo]) -> None:
    for name, shape in shapes.items():
        if known[name].shape != shape:
            found, expected = list(known[name].shape), list(shape)
            raise CheckpointError(
                f"{name} has shape {found}; the rest of this checkpoint asks for {expected}"
            )
    for name in shapes:
        dtype = known[name].dtype
        if name.endswith((".weight", ".bias")) and dtype not in FLOATING:
            raise CheckpointError(
                f"{name} is stored as {dtype}: quantised checkpoints can't be edited; "
                "give the fp16, bf16 or fp32 original"
            )


def _evidence(w: Widths, spelling: str, has_vae: bool) -> Iterator[str]:
    yield f"U-Net: all {len(list(unet_keys(w)))} tensors, widths {'/'.join(map(str, w.unet))}"
    yield f"U-Net input channels: {w.in_channels}"
    yield f"cross-attention: 16 blocks, text width {w.text}"
    yield f"text encoder: {len(list(text_keys(w)))} tensors under {spelling}, 12 layers"
    yield f"VAE: all {len(list(vae_keys(w)))} tensors" if has_vae else "VAE: none"


def _drop_reason(name: str, ema: Collection[str]) -> str:
    """Why a tensor that no SD1.x loader reads is left out."""
    if name in ema:
        return "EMA copy of the U-Net: unedited, it would bring the concept back"
    if _is_old_text(name):
        return "second copy of the text encoder"
    return "no SD1.x loader reads it"
