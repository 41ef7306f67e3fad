"""The text features that text encoders feed to the U-Net, for each clip skip."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import TEXT_LAYERS


@dataclass(frozen=True)
class FedFeatures:
    """The features of N prefixes that a text encoder feeds: ``norm`` of ``hidden`` (N × d)."""

    hidden: Tensor
    norm: Callable[[Tensor], Tensor]

    def at(self, prefixes: Tensor) -> Tensor:
        """The features (n × d) of these prefixes."""
        return self.norm(self.hidden[prefixes])


def features_by_clip_skip(
    encoders: Sequence[TextEncoder], prefixes: Prefixes, clip_skips: Collection[int]
) -> list[dict[int, FedFeatures]]:
    """What each encoder feeds to the U-Net, by clip skip; the encoders advance layer by layer.

    Raises CheckpointError for features that are not finite.
    """
    hidden = [encoder.embed(prefixes) for encoder in encoders]
    features: list[dict[int, FedFeatures]] = [{} for _ in encoders]
    for number in range(1, TEXT_LAYERS + 1):
        for i, encoder in enumerate(encoders):
            hidden[i] = encoder.layer(number)(hidden[i], prefixes)
            if (skip := TEXT_LAYERS + 1 - number) in clip_skips:
                if not torch.isfinite(torch.stack(torch.aminmax(hidden[i]))).all():
                    raise CheckpointError(
                        "text features are not finite: the text encoder is damaged"
                    )
                features[i][skip] = FedFeatures(hidden[i], encoder.final_norm)
    return features
