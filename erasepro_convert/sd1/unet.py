"""The U-Net's part of the key table, and its cross-attention modules."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from erasepro_convert.sd1.keys import (
    EMA,
    GUIDANCE_EMBEDDING,
    UNET,
    Key,
    Widths,
    affine,
    text_attention,
)


@dataclass(frozen=True)
class CrossAttention:
    """A cross-attention module of the U-Net: its label, its block, its two edited matrices."""

    label: str
    block: str
    to_k: str
    to_v: str


def cross_attentions() -> tuple[CrossAttention, ...]:
    """Return the 16 cross-attention modules, in the order of the forward pass."""
    return tuple(
        CrossAttention(
            label=f"unet.{block}.{index}",
            block=block,
            to_k=f"{UNET}{original}.transformer_blocks.0.attn2.to_k.weight",
            to_v=f"{UNET}{original}.transformer_blocks.0.attn2.to_v.weight",
        )
        for block, index, original, _ in _attention_places()
    )


def key_value_matrices() -> tuple[str, ...]:
    """Return the 32 matrices through which the U-Net reads a prompt, in forward order."""
    return tuple(name for a in cross_attentions() for name in (a.to_k, a.to_v))


def edited_names(
    text_layers: Iterable[int], blocks: Collection[str], *, values_only: bool = False
) -> tuple[str, ...]:
    """Return the matrices that an erasure edits in these text layers and U-Net blocks, in order.

    With ``values_only`` the keys of the U-Net's cross-attention are none of them.
    """
    text = [name for number in text_layers for name in text_attention(number).values()]
    chosen = [attention for attention in cross_attentions() if attention.block in blocks]
    unet = [(a.to_v,) if values_only else (a.to_k, a.to_v) for a in chosen]
    return (*text, *(name for names in unet for name in names))


def trained_names(w: Widths, parameters: str, blocks: Collection[str]) -> tuple[str, ...]:
    """Return the tensors of the U-Net that a gradient method trains, by a recipe's ``parameters``.

    ``blocks`` restricts those of attention; tensors outside of attention belong to no block.
    """
    block_of = {a.to_k.partition(".transformer_blocks")[0]: a.block for a in cross_attentions()}

    def is_trained(name: str) -> bool:
        place, _, part = name.partition(".transformer_blocks.0.")
        cross = part.startswith("attn2.")
        if parameters == "not-cross-attention":
            return not cross
        if block_of.get(place) not in blocks:
            return False
        match parameters:
            case "cross-attention-kv":
                return part in ("attn2.to_k.weight", "attn2.to_v.weight")
            case "cross-attention":
                return cross
            case _:
                return cross or part.startswith("attn1.")

    return tuple(key.original for key in unet_keys(w) if is_trained(key.original))


def _attention_places() -> Iterator[tuple[str, int, str, str]]:
    """Give each U-Net transformer: its block, index in it, original and diffusers prefix."""
    for level in range(3):
        for j in range(2):
            original = f"input_blocks.{3 * level + j + 1}.1"
            yield f"down.{level}", j, original, f"down_blocks.{level}.attentions.{j}"
    yield "mid", 0, "middle_block.1", "mid_block.attentions.0"
    for i in range(1, 4):
        for j in range(3):
            yield f"up.{i}", j, f"output_blocks.{3 * i + j}.1", f"up_blocks.{i}.attentions.{j}"


def unet_keys(w: Widths) -> Iterator[Key]:
    """Give the 686 parameters of the U-Net, and the guidance embedding where it has one."""
    for key in _unet_keys(w):
        yield Key(UNET + key.original, key.diffusers, key.shape)


def _unet_keys(w: Widths) -> Iterator[Key]:
    yield from affine("time_embed.0", "time_embedding.linear_1", (w.time, w.unet[0]))
    yield from affine("time_embed.2", "time_embedding.linear_2", (w.time, w.time))
    if w.guidance:
        shape = (w.unet[0], w.guidance)
        yield Key(GUIDANCE_EMBEDDING.removeprefix(UNET), "time_embedding.cond_proj.weight", shape)
    yield from affine("input_blocks.0.0", "conv_in", (w.unet[0], w.in_channels, 3, 3))
    channels = w.unet[0]
    skips = [channels]
    for level, width in enumerate(w.unet):
        for j in range(2):
            number = 3 * level + j + 1
            names = (f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{j}")
            # SD1.x widens at the start of levels 1 and 2; only there is a shortcut.
            yield from _unet_resnet(*names, channels, width, w.time, level in (1, 2) and j == 0)
            channels = width
            skips.append(channels)
        if level < 3:
            names = (
                f"input_blocks.{3 * level + 3}.0.op",
                f"down_blocks.{level}.downsamplers.0.conv",
            )
            yield from affine(*names, (channels, channels, 3, 3))
            skips.append(channels)
    for j in range(2):
        names = (f"middle_block.{2 * j}", f"mid_block.resnets.{j}")
        yield from _unet_resnet(*names, channels, channels, w.time, shortcut=False)
    for i, width in enumerate(reversed(w.unet)):
        for j in range(3):
            names = (f"output_blocks.{3 * i + j}.0", f"up_blocks.{i}.resnets.{j}")
            yield from _unet_resnet(*names, channels + skips.pop(), width, w.time, shortcut=True)
            channels = width
        if i < 3:
            original = f"output_blocks.{3 * i + 2}.{1 if i == 0 else 2}.conv"
            yield from affine(original, f"up_blocks.{i}.upsamplers.0.conv", (width, width, 3, 3))
    width_of = {f"down.{i}": w.unet[i] for i in range(3)} | {"mid": w.unet[3]}
    width_of |= {f"up.{i}": w.unet[3 - i] for i in range(1, 4)}
    for block, _, original, diffusers in _attention_places():
        yield from _transformer(original, diffusers, width_of[block], w.text)
    yield from affine("out.0", "conv_norm_out", (w.unet[0],))
    yield from affine("out.2", "conv_out", (4, w.unet[0], 3, 3))


def _unet_resnet(o: str, d: str, into: int, out: int, time: int, shortcut: bool) -> Iterator[Key]:
    yield from affine(f"{o}.in_layers.0", f"{d}.norm1", (into,))
    yield from affine(f"{o}.in_layers.2", f"{d}.conv1", (out, into, 3, 3))
    yield from affine(f"{o}.emb_layers.1", f"{d}.time_emb_proj", (out, time))
    yield from affine(f"{o}.out_layers.0", f"{d}.norm2", (out,))
    yield from affine(f"{o}.out_layers.3", f"{d}.conv2", (out, out, 3, 3))
    if shortcut:
        yield from affine(f"{o}.skip_connection", f"{d}.conv_shortcut", (out, into, 1, 1))


def _transformer(o: str, d: str, c: int, context: int) -> Iterator[Key]:
    yield from affine(f"{o}.norm", f"{d}.norm", (c,))
    yield from affine(f"{o}.proj_in", f"{d}.proj_in", (c, c, 1, 1))
    b = ".transformer_blocks.0"
    for attention, source in (("attn1", c), ("attn2", context)):
        for part, shape in (("q", (c, c)), ("k", (c, source)), ("v", (c, source))):
            path = f"{b}.{attention}.to_{part}.weight"
            yield Key(o + path, d + path, shape)
        yield from affine(f"{o}{b}.{attention}.to_out.0", f"{d}{b}.{attention}.to_out.0", (c, c))
    yield from affine(f"{o}{b}.ff.net.0.proj", f"{d}{b}.ff.net.0.proj", (8 * c, c))
    yield from affine(f"{o}{b}.ff.net.2", f"{d}{b}.ff.net.2", (c, 4 * c))
    for norm in ("norm1", "norm2", "norm3"):
        yield from affine(f"{o}{b}.{norm}", f"{d}{b}.{norm}", (c,))
    yield from affine(f"{o}.proj_out", f"{d}.proj_out", (c, c, 1, 1))


def ema_name(unet_name: str) -> str:
    """Return the name under which Lightning's EMA keeps its copy of U-Net tensor ``unet_name``.

    The name has no dots, so it cannot be mapped back.
    """
    return EMA + unet_name.removeprefix("model.").replace(".", "")
