"""Checkpoints that draw the very same pictures as another from other features and weights.

Whoever reads a layer norm's output reads W(g⊙f + c) + b: gains g can move into W, and what a
constant c adds can be taken away behind.  Keys need nothing taken away, since softmax does not see
what all of them have in common.  A query times a factor and its key divided by it give the same
attention, a value times a factor and its output divided by it the same sum.
"""

import torch
from torch import Tensor

from erasepro_convert.sd1 import cross_attentions
from erasepro_convert.sd1.keys import TEXT, TEXT_LAYERS
from tests.miniature import State


def same_pictures(
    state: State, *, offset: float = 0.0, gains: float = 1.0, scales: float = 1.0, seed: int = 0
) -> State:
    """Another state dict, in float32, with the pictures of ``state``.

    ``offset`` is the size of the constant, as a multiple of the norm of the layer norm's gains;
    gains and scales are drawn between 1/``gains`` and ``gains``, 1/``scales`` and ``scales``.
    """
    random = torch.Generator().manual_seed(seed)
    made = {k: v.float() if v.is_floating_point() else v.clone() for k, v in state.items()}
    layers = [f"{TEXT}encoder.layers.{i}." for i in range(TEXT_LAYERS)]
    attentions = [a.to_k.removesuffix("to_k.weight") for a in cross_attentions()]

    def factors(most: float, count: int) -> Tensor:
        return most ** (2 * torch.rand(count, generator=random) - 1)

    for layer in layers:
        query_key, value = factors(scales, 2)
        for part in ("weight", "bias"):
            made[f"{layer}self_attn.q_proj.{part}"] *= query_key
            made[f"{layer}self_attn.k_proj.{part}"] /= query_key
            made[f"{layer}self_attn.v_proj.{part}"] *= value
        made[f"{layer}self_attn.out_proj.weight"] /= value
    for attention in attentions:
        query_key, value = factors(scales, 2)
        made[f"{attention}to_q.weight"] *= query_key
        made[f"{attention}to_k.weight"] /= query_key
        made[f"{attention}to_v.weight"] *= value
        made[f"{attention}to_out.0.weight"] /= value
    readers = [
        *((f"{p}layer_norm1", [f"{p}self_attn.{x}_proj" for x in "qkv"]) for p in layers),
        (f"{TEXT}final_layer_norm", [f"{a}to_{x}" for a in attentions for x in "kv"]),
    ]
    for norm, matrices in readers:
        gain, bias = made[f"{norm}.weight"], made[f"{norm}.bias"]
        g = factors(gains, len(gain))
        gain *= g
        bias *= g
        constant = torch.randn(len(gain), generator=random)
        constant *= offset * gain.norm() / constant.norm()
        bias += constant
        for matrix in matrices:
            made[f"{matrix}.weight"] /= g
            added = made[f"{matrix}.weight"] @ constant
            if f"{matrix}.bias" in made:
                made[f"{matrix}.bias"] -= added
            elif matrix.endswith("to_v"):
                out = matrix.replace("to_v", "to_out.0")
                made[f"{out}.bias"] -= made[f"{out}.weight"] @ added
    return made
