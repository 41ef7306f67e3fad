"""The names of attacks, and what each is; nothing here needs a library."""

from collections.abc import Mapping
from typing import Literal

Attack = Literal[
    "swap-te",
    "prefix",
    "tricks",
    "ring-a-bell",
    "mma",
    "unlearn-diff",
    "text-inversion",
    "rece",
    "merge",
    "quantise",
    "lora",
    "ti",
    "completion",
    "noise",
    "img2img",
    "inpaint",
    "finetune",
]

ON_TEXT: Mapping[Attack, str] = {
    "swap-te": "another text encoder beside this U-Net; this one beside the original's U-Net",
    "prefix": "a word before the prompt, the best of many",
    "tricks": "other spellings, letters and languages, weights of words",
    "ring-a-bell": "words in the target's place, found in the original's encoder (Ring-A-Bell)",
    "mma": "words in the target's place, found in the original's encoder (MMA-Diffusion)",
    "unlearn-diff": "words before the prompt, found in this file (after UnlearnDiffAtk)",
    "text-inversion": "embeddings searched for until they give the target's keys and values",
    "rece": "features derived from both U-Nets, fed in place of a text's (RECE)",
    "merge": "this file's weights mixed with the original's",
    "quantise": "weights rounded to 8 and 4 bits",
    "lora": "LoRAs, random ones and ones trained on the target",
}
"""Attacks that are measured on text features, and can be drawn, with what each does."""

ON_PICTURES: Mapping[Attack, str] = {
    "ti": "textual inversion: a new word trained on pictures of the target",
    "completion": "the original draws the first steps, this file the rest",
    "noise": "stronger noise at the start",
    "img2img": "image-to-image from pictures of the target",
    "inpaint": "the middle of pictures of the target filled in",
    "finetune": "the U-Net trained on, on other things and on the target",
}
"""Attacks that need pictures, with what each does."""

DESCRIPTIONS: Mapping[Attack, str] = {**ON_TEXT, **ON_PICTURES}
"""What each attack does with the erased file, for readers who do not know its name."""
