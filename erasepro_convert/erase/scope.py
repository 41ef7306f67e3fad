"""Which matrices a recipe has edited, and what their edits hold for."""

from dataclasses import dataclass

from erasepro_convert.manifest import Encoder


@dataclass(frozen=True)
class Scope:
    """Which matrices are edited, and what their edits hold for.

    ``text_layers`` count from 1, ``unet_blocks`` are names (``down.0``, …).  The cross-attention is
    edited for the features of each of ``text_encoders`` and ``clip_skips`` together.
    ``through_updated`` extracts the target's features through each layer after its update
    (Algorithm 1) or before it (Algorithm 2); in either case with the weights as they will be
    stored.  With ``values_only`` the keys of the cross-attention stay as they are.
    """

    text_layers: tuple[int, ...]
    unet_blocks: tuple[str, ...]
    text_encoders: tuple[Encoder, ...]
    clip_skips: tuple[int, ...]
    through_updated: bool
    values_only: bool = False
