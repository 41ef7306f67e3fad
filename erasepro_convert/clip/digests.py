"""Digests that name what a text encoder makes of some texts."""

from collections.abc import Iterable

import torch
from blake3 import blake3
from torch import Tensor

from erasepro_convert.clip.text_encoder import PARAMETERS, ReadTensor
from erasepro_convert.runtime.dtypes import dtype_code, packed
from erasepro_convert.runtime.hashing import json_digest


def encoder_digest(read: ReadTensor) -> str:
    """Return the digest of a text encoder's weights but the token embedding."""
    return values_digest(map(read, PARAMETERS))


def features_digest(encoder: str, embeddings: Tensor, described: object) -> str:
    """Return the digest of all that features of some texts depend on.

    That is the ``encoder_digest``, the ``embeddings`` of the texts' tokens, what ``described`` says
    of the texts (as JSON), and torch's arithmetic: its version and the processor's instructions.
    """
    arithmetic = torch.__version__, torch.backends.cpu.get_cpu_capability()
    return json_digest([encoder, values_digest([embeddings]), described, *arithmetic])


def values_digest(tensors: Iterable[Tensor]) -> str:
    """Return the BLAKE3 of tensors in their order: dtypes, shapes and values."""
    digest = blake3()
    for tensor in tensors:
        digest.update(f"{dtype_code(tensor.dtype)} {list(tensor.shape)}\n".encode())
        digest.update(packed(tensor))
    return digest.hexdigest()
