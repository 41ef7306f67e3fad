"""What a text encoder feeds to the U-Net, for each clip skip; kept in the user's cache folder."""

from collections.abc import Collection, Mapping

from torch import Tensor

from erasepro_convert.clip.digests import features_digest
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.runtime.software_versions import software_versions
from erasepro_convert.sd1.keys import TEXT_LAYERS
from erasepro_convert.storage.cache import cached_tensors, state_digest


def fed_features(
    encoder: TextEncoder, prefixes: Prefixes, clip_skips: Collection[int], known: str | None = None
) -> dict[int, Tensor]:
    """Return what an encoder feeds to the U-Net (N × d, for N prefixes), by clip skip.

    ``known`` is the digest of the encoder's weights; with it features come from the user's cache
    folder, or are kept there.
    """

    def compute() -> dict[str, Tensor]:
        hidden = encoder.embed(prefixes)
        features = {}
        for number in range(1, TEXT_LAYERS + 2 - min(clip_skips)):
            hidden = encoder.layer(number)(hidden, prefixes)
            if (skip := TEXT_LAYERS + 1 - number) in clip_skips:
                features[str(skip)] = encoder.fed(hidden, prefixes)
        return features

    found: Mapping[str, Tensor]
    if known is None:
        found = compute()
    else:
        places = ("ids", prefixes.ids), ("positions", prefixes.positions)
        texts = state_digest([*places, ("prefix_at", prefixes.prefix_at)])
        described = software_versions(), texts, sorted(clip_skips), str(encoder.dtype)
        digest = features_digest(known, encoder.embeddings(prefixes.ids.unique()), described)
        found = cached_tensors(f"features-{digest}", compute, is_dear=False)
    return {skip: found[str(skip)] for skip in sorted(clip_skips, reverse=True)}
