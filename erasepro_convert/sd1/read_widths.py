"""Read the widths of a model from the shapes of its tensors."""

from collections.abc import Mapping

from erasepro_convert.checkpoint.tensor_info import TensorInfo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import (
    FIRST_CONVOLUTION,
    GUIDANCE_EMBEDDING,
    TEXT,
    TEXT_HEADS,
    UNET,
    VAE,
    Widths,
)
from erasepro_convert.sd1.unet import cross_attentions

VARIANTS = {
    4: "stable-diffusion-v1",
    9: "stable-diffusion-v1-inpainting",
    8: "stable-diffusion-v1-instruct-pix2pix",
}
"""The ModelSpec architecture, by the number of U-Net input channels."""

OTHER_WIDTHS = {1024: "as Stable Diffusion 2.x does", 2048: "as SDXL does"}
"""Widths of text features that U-Nets of other models take."""


def read_widths(known: Mapping[str, TensorInfo]) -> Widths:
    """Return the widths of a model, given its tensors by current name.

    Raises CheckpointError for widths that no SD1.x model has.
    """

    def size(name: str, axis: int = 0) -> int:
        shape = known[name].shape if name in known else ()
        if axis >= len(shape):
            found = f"shape {list(shape)}" if name in known else "missing"
            raise CheckpointError(f"not a Stable Diffusion 1.x checkpoint: {name} is {found}")
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
