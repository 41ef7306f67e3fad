"""What an SD1.x checkpoint consists of, and which variant a given one is."""

from erasepro_convert.layout.identify import Dropped, Layout, identify
from erasepro_convert.layout.keys import text_attention
from erasepro_convert.layout.unet import CrossAttention, cross_attentions

__all__ = [
    "CrossAttention",
    "Dropped",
    "Layout",
    "cross_attentions",
    "identify",
    "text_attention",
]
