"""The structure of SD1.x checkpoints, and the recognition of a given one."""

from erasepro_convert.sd1.identify import Ema, Layout, identify
from erasepro_convert.sd1.keys import text_attention
from erasepro_convert.sd1.unet import (
    cross_attentions,
    edited_names,
    key_value_matrices,
    trained_names,
)

__all__ = [
    "Ema",
    "Layout",
    "cross_attentions",
    "edited_names",
    "identify",
    "key_value_matrices",
    "text_attention",
    "trained_names",
]
