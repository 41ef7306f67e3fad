"""Digests that name what a text encoder makes of some texts."""

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import PARAMETERS, ReadTensor
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.storage.cache import state_digest


def encoder_digest(read: ReadTensor) -> str:
    """Return the digest of a text encoder's weights but the token embedding."""
    return state_digest((name, read(name)) for name in PARAMETERS)


def features_digest(encoder: str, embeddings: Tensor, described: object) -> str:
    """Return the digest of all that features of some texts depend on.

    That is the ``encoder_digest``, the ``embeddings`` of the texts' tokens, what ``described`` says
    of the texts (as JSON), and torch's arithmetic: its version and the processor's instructions.
    """
    arithmetic = torch.__version__, torch.backends.cpu.get_cpu_capability()
    values = state_digest([("embeddings", embeddings)])
    return json_digest([encoder, values, described, *arithmetic])
