"""Decide which SD1.x variant a checkpoint is, and which of its tensors are written or dropped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from erasepro_convert.checkpoint.tensor_info import Shape, TensorInfo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import SD1_DTYPES
from erasepro_convert.sd1.dropped_tensors import REPLACED_BY_EMA, drop_reasons
from erasepro_convert.sd1.keys import (
    EMA,
    EMA_COUNTERS,
    FIRST_CONVOLUTION,
    POSITION_IDS,
    POSITIONS,
    PREDICTION_MARKERS,
    SCHEDULE_BUFFERS,
    SCHEDULE_STEPS,
    TEXT,
    Widths,
    text_keys,
)
from erasepro_convert.sd1.other_models import describe_other_file
from erasepro_convert.sd1.read_widths import VARIANTS, read_widths
from erasepro_convert.sd1.requirements import (
    require_complete,
    require_cross_attention,
    require_editable,
    require_ema,
    require_plain_text_encoder,
    require_shapes_and_dtypes,
)
from erasepro_convert.sd1.spelling import Spelling, original_names, resolve_spelling
from erasepro_convert.sd1.unet import ema_name, unet_keys
from erasepro_convert.sd1.vae import vae_keys

Ema = Literal["drop", "convert", "use"]
"""What to do with an EMA copy of the U-Net: leave it out, edit it too, or use it as the U-Net."""


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
        return {input_name: name for name, input_name in self.source.items() if input_name != name}

    def with_ema_as_unet(self) -> "Layout":
        """Return this layout with the EMA copy read as the U-Net; ``ema`` must be convert."""
        copies = {k.original: self.source[ema_name(k.original)] for k in unet_keys(self.widths)}
        return replace(self, source={**self.source, **copies})


def identify(tensors: Mapping[str, TensorInfo], ema: Ema = "drop") -> Layout:
    """Recognise an SD1.x checkpoint by its tensor names, shapes and dtypes.

    Raises CheckpointError when it is not SD1.x (the message names the model), when a U-Net or
    text-encoder tensor is missing, when an EMA copy that ``ema`` needs is missing, when a shape
    contradicts the others, or when a dtype cannot be edited.
    """
    spelling = resolve_spelling(tensors)
    known = {name: tensors[input_name] for name, input_name in spelling.source.items()}
    if FIRST_CONVOLUTION not in known or TEXT + "final_layer_norm.weight" not in known:
        raise CheckpointError(describe_other_file(known))
    require_editable({name: known[name] for name in original_names() if name in known})
    require_cross_attention(known)
    widths = read_widths(known)
    require_plain_text_encoder(known)
    has_vae = any(widths.vae)
    table = [*unet_keys(widths), *text_keys(widths)] + (list(vae_keys(widths)) if has_vae else [])
    require_complete(table, known)
    shapes = {key.original: key.shape for key in table} | _optional_shapes(known)
    copies = {ema_name(key.original): key for key in unet_keys(widths)}
    has_ema = any(name in known for name in copies)
    source = {name: spelling.source[name] for name in shapes}
    if ema == "use" or (ema == "convert" and has_ema):
        require_ema(copies, known)
        if ema == "use":
            source |= {key.original: name for name, key in copies.items()}
        else:
            shapes |= {name: key.shape for name, key in copies.items()}
            shapes |= {name: () for name in EMA_COUNTERS if name in known}
            source |= {name: spelling.source[name] for name in shapes if name.startswith(EMA)}
    require_shapes_and_dtypes(
        {name: (tensors[input_name], shapes[name]) for name, input_name in source.items()}
    )
    taken = set(source.values())
    replaced = {spelling.source[name] for name in shapes} - taken
    dropped = drop_reasons(spelling, taken | replaced, copies) | dict.fromkeys(
        replaced, REPLACED_BY_EMA
    )
    dropped = {
        input_name: _with_dtype(reason, tensors[input_name])
        for input_name, reason in dropped.items()
    }
    return Layout(
        variant=VARIANTS[widths.in_channels],
        evidence=tuple(_evidence(widths, spelling, has_vae=has_vae, has_ema=has_ema)),
        widths=widths,
        source=source,
        shapes=shapes,
        dropped=dropped,
        ema=ema if has_ema else None,
    )


def _optional_shapes(known: Mapping[str, TensorInfo]) -> dict[str, Shape]:
    """Return the shapes of optional tensors that are there; loaders read some, so all are kept."""
    shapes: dict[str, Shape] = {POSITION_IDS: (1, POSITIONS)}
    shapes |= dict.fromkeys(SCHEDULE_BUFFERS, (SCHEDULE_STEPS,))
    shapes |= dict.fromkeys(PREDICTION_MARKERS, (0,))
    return {name: shape for name, shape in shapes.items() if name in known}


def _evidence(widths: Widths, spelling: Spelling, *, has_vae: bool, has_ema: bool) -> Iterator[str]:
    """Say what shows that this is an SD1.x checkpoint, and which variant it is."""

    def under(component: str) -> str:
        return f"under {spelling.prefixes[component]}"

    unet, text, vae = (len(list(keys(widths))) for keys in (unet_keys, text_keys, vae_keys))
    unet_widths = "/".join(map(str, widths.unet))
    yield f"U-Net: all {unet} tensors {under('U-Net')}, widths {unet_widths}"
    yield f"U-Net input channels: {widths.in_channels}"
    yield f"cross-attention: 16 blocks, text width {widths.text}"
    yield f"text encoder: all {text} tensors {under('text encoder')}, 12 layers"
    yield f"VAE: all {vae} tensors {under('VAE')}" if has_vae else "VAE: none"
    if widths.guidance:
        yield f"U-Net guidance embedding: width {widths.guidance} (a latent consistency model, LCM)"
    if has_ema:
        yield f"EMA: a copy of the U-Net under {EMA}"


def _with_dtype(reason: str, info: TensorInfo) -> str:
    """Return the reason why a tensor is left out, with its dtype if SD1.x never has that dtype."""
    return reason if info.dtype in SD1_DTYPES else f"{reason} (stored as {info.dtype})"
