"""``merge``: the erased model merged with the original, as model mergers do it.

The weighted sum of all tensors is the commonest merge of UIs.  Merging with a relative of the
original gives back a share of the erasure in the same way.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from erasepro_convert.attacks.case import AttackCase, AttackContext
from erasepro_convert.attacks.changed_weights import ChangedModel, changed_case
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.runtime.hashing import json_digest

SHARES = {
    "3/4 erased, 1/4 original": 0.75,
    "1/2 erased, 1/2 original": 0.5,
    "1/4 erased, 3/4 original": 0.25,
}
"""The erased model's share in each merge."""


def merge_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each share; there is no such attack on the original model."""
    for how, share in SHARES.items():
        merged = merge_models(context.original, context.erased, share)
        yield changed_case(context, "merge", how, [merged], [])


def merge_models(original: LoadedModel, erased: LoadedModel, share: float) -> ChangedModel:
    """Merge two models; ``share`` is that of the erased one."""
    digest = json_digest(["merge", original.digest, erased.digest, share])
    return ChangedModel(digest, erased, partial(_merge, original, share))


def _merge(original: LoadedModel, share: float, name: str, weight: Tensor) -> Tensor:
    # Where both are equal, so is their sum: lerp adds a share of the difference.
    return torch.lerp(original.checkpoint.read(name).float(), weight, share)
