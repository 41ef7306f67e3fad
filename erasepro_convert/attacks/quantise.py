"""``quantise``: weights rounded to 8 or 4 bits and back, as smaller files of a model have them.

8 bits are those of LLM.int8() (Dettmers et al., 2022): whole numbers from -127 to 127, with one
scale for each output.  4 bits are the NF4 of QLoRA (Dettmers et al., 2023): one of 16 levels, with
one scale for each 64 consecutive numbers.  Both scales are the largest absolute value.

The weights of linear layers and convolutions of the U-Net and of the text encoder are rounded.
Norms, biases and embeddings stay, as they do there, and so does the VAE, which knows no concepts.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from erasepro_convert.attacks.case import AttackCase, AttackContext
from erasepro_convert.attacks.changed_weights import ChangedModel, changed_case
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1.keys import POSITION_EMBEDDING, TEXT, TOKEN_EMBEDDING, UNET

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The levels of NF4: App. E of QLoRA."""

BLOCK = 64
"""How many consecutive numbers have one scale in NF4."""


def quantise_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each number of bits."""
    for how in SCHEMES:
        erased, original = (quantise_model(m, how) for m in (context.erased, context.original))
        yield changed_case(context, "quantise", how, [erased], [original])


def quantise_model(model: LoadedModel, scheme: str) -> ChangedModel:
    """Round a model's weights by one of SCHEMES."""
    quantise = SCHEMES[scheme]

    def change(name: str, weight: Tensor) -> Tensor:
        return quantise(weight) if is_quantised(name, weight) else weight

    return ChangedModel(json_digest(["quantise", model.digest, scheme]), model, change)


def is_quantised(name: str, weight: Tensor) -> bool:
    """Whether a tensor is the weight of a linear layer or convolution outside of the VAE."""
    return (
        name.startswith((UNET, TEXT))
        and weight.dim() > 1
        and name not in (TOKEN_EMBEDDING, POSITION_EMBEDDING)
    )


def int8(weight: Tensor) -> Tensor:
    """Round a weight to 8 bits and back."""
    rows = weight.flatten(1)
    scales = _nonzero(rows.abs().amax(1, keepdim=True)) / 127
    return ((rows / scales).round() * scales).view(weight.shape)


def nf4(weight: Tensor) -> Tensor:
    """Round a weight to 4 bits and back."""
    flat = weight.flatten()
    blocks = pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = _nonzero(blocks.abs().amax(1, keepdim=True))
    levels = torch.tensor(NF4)
    nearest = torch.bucketize(blocks / scales, (levels[1:] + levels[:-1]) / 2)
    return (levels[nearest] * scales).flatten()[: len(flat)].view(weight.shape)


def _nonzero(scales: Tensor) -> Tensor:
    """Return scales where zeros, of weights that are all zero, are ones."""
    return torch.where(scales == 0, 1, scales)


SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {"8 bits (int8)": int8, "4 bits (NF4)": nf4}
