"""The text features that text encoders feed to the U-Net, for each clip skip."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from erasepro_convert.clip.digests import features_digest, values_digest
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.software_versions import software_versions
from erasepro_convert.sd1.keys import TEXT_LAYERS
from erasepro_convert.storage.cache import cached_tensors


def features_by_clip_skip(
    encoder: TextEncoder, prefixes: Prefixes, clip_skips: Collection[int], known: str | None = None
) -> dict[int, Tensor]:
    """Return what an encoder feeds to the U-Net (N × d, for N prefixes), by clip skip.

    ``known`` is the digest of the encoder's weights; with it features come from the user's cache
    folder, or are kept there.

    Raises CheckpointError for features that are not finite.
    """

    def compute() -> Mapping[str, Tensor]:
        hidden = encoder.embed(prefixes)
        features = {}
        for number in range(1, TEXT_LAYERS + 1):
            hidden = encoder.layer(number)(hidden, prefixes)
            if (skip := TEXT_LAYERS + 1 - number) in clip_skips:
                fed = encoder.fed(hidden, prefixes)
                if not torch.isfinite(torch.stack(torch.aminmax(fed))).all():
                    raise CheckpointError(
                        "text features are not finite: the text encoder is damaged"
                    )
                features[str(skip)] = fed
        return features

    if known is None:
        found = compute()
    else:
        texts = values_digest([prefixes.ids, prefixes.positions, prefixes.prefix_at])
        described = software_versions(), texts, sorted(clip_skips), str(encoder.dtype)
        digest = features_digest(known, encoder.embeddings(prefixes.ids.unique()), described)
        found = cached_tensors(f"features-{digest}", compute, is_dear=False)
    return {skip: found[str(skip)] for skip in sorted(clip_skips, reverse=True)}
