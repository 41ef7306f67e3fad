"""The autoencoder's part of the key table."""

from collections.abc import Iterator

from erasepro_convert.checkpoint.tensor_info import Shape
from erasepro_convert.sd1.keys import VAE, Key, Widths, affine


def vae_keys(w: Widths) -> Iterator[Key]:
    """Give the 248 parameters of the autoencoder (original names with ``first_stage_model.``)."""
    for key in _vae_keys(w.vae):
        yield Key(VAE + key.original, key.diffusers, key.shape)


def is_kept_as_matrix(name: str, found: Shape, shape: Shape) -> bool:
    """Whether ``found`` is diffusers' shape of a tensor whose original one is ``shape``.

    diffusers stores the 1×1 convolutions of the attention as matrices, which have equal bytes.
    """
    return ".attn_1." in name and (*found, 1, 1) == shape


def _vae_keys(v: tuple[int, int, int, int]) -> Iterator[Key]:
    latent = 4
    yield from affine("quant_conv", "quant_conv", (2 * latent, 2 * latent, 1, 1))
    yield from affine("post_quant_conv", "post_quant_conv", (latent, latent, 1, 1))
    yield from affine("encoder.conv_in", "encoder.conv_in", (v[0], 3, 3, 3))
    channels = v[0]
    for level, width in enumerate(v):
        for j in range(2):
            names = (f"encoder.down.{level}.block.{j}", f"encoder.down_blocks.{level}.resnets.{j}")
            yield from _vae_resnet(*names, channels, width, level in (1, 2) and j == 0)
            channels = width
        if level < 3:
            original = f"encoder.down.{level}.downsample.conv"
            diffusers = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            yield from affine(original, diffusers, (width, width, 3, 3))
    yield from _vae_middle("encoder", v[3])
    yield from affine("encoder.norm_out", "encoder.conv_norm_out", (v[3],))
    yield from affine("encoder.conv_out", "encoder.conv_out", (2 * latent, v[3], 3, 3))
    yield from affine("decoder.conv_in", "decoder.conv_in", (v[3], latent, 3, 3))
    yield from _vae_middle("decoder", v[3])
    for level in (3, 2, 1, 0):  # the original counts levels from the outside, diffusers in order
        width, i = v[level], 3 - level
        for j in range(3):
            names = (f"decoder.up.{level}.block.{j}", f"decoder.up_blocks.{i}.resnets.{j}")
            yield from _vae_resnet(*names, channels, width, level in (0, 1) and j == 0)
            channels = width
        if level > 0:
            original = f"decoder.up.{level}.upsample.conv"
            diffusers = f"decoder.up_blocks.{i}.upsamplers.0.conv"
            yield from affine(original, diffusers, (width, width, 3, 3))
    yield from affine("decoder.norm_out", "decoder.conv_norm_out", (v[0],))
    yield from affine("decoder.conv_out", "decoder.conv_out", (3, v[0], 3, 3))


def _vae_middle(side: str, c: int) -> Iterator[Key]:
    for j in range(2):
        names = (f"{side}.mid.block_{j + 1}", f"{side}.mid_block.resnets.{j}")
        yield from _vae_resnet(*names, c, c, shortcut=False)
    o, d = f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0"
    yield from affine(f"{o}.norm", f"{d}.group_norm", (c,))
    for part, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        yield from affine(f"{o}.{part}", f"{d}.{name}", (c, c, 1, 1))


def _vae_resnet(o: str, d: str, into: int, out: int, shortcut: bool) -> Iterator[Key]:
    yield from affine(f"{o}.norm1", f"{d}.norm1", (into,))
    yield from affine(f"{o}.conv1", f"{d}.conv1", (out, into, 3, 3))
    yield from affine(f"{o}.norm2", f"{d}.norm2", (out,))
    yield from affine(f"{o}.conv2", f"{d}.conv2", (out, out, 3, 3))
    if shortcut:
        yield from affine(f"{o}.nin_shortcut", f"{d}.conv_shortcut", (out, into, 1, 1))
