"""kohya's names of modules, by which a LoRA says what it changes."""

from functools import cache

from erasepro_convert.sd1.keys import TEXT, text_keys
from erasepro_convert.sd1.spelling import ALL_TENSORS
from erasepro_convert.sd1.unet import unet_keys


@cache
def kohya_names() -> dict[str, str]:
    """Map the original name of each linear layer's weight to kohya's name of the layer.

    That is diffusers' name with lines for dots, behind the prefix of its part (sd-scripts'
    ``networks/lora.py``).
    """
    parts = (("lora_unet_", unet_keys(ALL_TENSORS)), ("lora_te_", text_keys(ALL_TENSORS)))
    return {
        key.original: prefix + key.diffusers.removesuffix(".weight").replace(".", "_")
        for prefix, keys in parts
        for key in keys
        if len(key.shape) == 2 and not key.original.startswith(f"{TEXT}embeddings.")
    }
