"""Prompts that stand for the language: common words of CLIP's vocabulary, in a few phrases each.

CLIP's tokens are numbered in the order in which they were merged, so that low numbers are common
words (Radford et al., 2021).  Words of the prompts that drift is measured on are left out: what
those prompts say is not retained.
"""

import re
from collections.abc import Callable
from functools import cache

from erasepro_convert.clip.tokenizer import WORD_END, vocabulary
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS

WORDS = 5000
"""How many of the most common words are used: many times the 768 dimensions of CLIP's features."""

PHRASES = 1500
"""How many longer phrases there are."""

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a painting by {}", "{} in the background")
"""What words stand in, by turns."""

ADJECTIVES = (
    "red", "blue", "green", "yellow", "white", "black", "old", "young", "small", "big", "beautiful",
    "broken", "dark", "bright", "happy", "sad", "new", "tall", "golden", "wooden", "strange",
    "cute", "modern",
)  # fmt: skip
CONTEXTS = (
    "at night", "in the snow", "on the beach", "on a white background", "in the city", "in a house",
    "under the sky", "on the grass", "with a friend", "by a painter", "in black and white",
    "in a room", "under water", "next to a car", "on the street", "in my hand", "in the sun",
)  # fmt: skip


@cache
def whole_words() -> dict[str, int]:
    """Return the tokens that are whole words of at least three letters, by their text."""
    return {
        piece.removesuffix(WORD_END): number
        for piece, number in vocabulary()[0].items()
        if piece.endswith(WORD_END)
        and piece.isascii()
        and piece.removesuffix(WORD_END).isalpha()
        and len(piece.removesuffix(WORD_END)) > 2
    }


@cache
def common_words() -> dict[str, int]:
    """Return the words whose phrases stand for the language with their tokens, commonest first."""
    held_out = set(re.findall(r"\w+", " ".join(DRIFT_PROMPTS).lower()))
    words = sorted(whole_words().items(), key=lambda entry: entry[1])
    return dict([entry for entry in words if entry[0] not in held_out][:WORDS])


def language_prompts(known: Callable[[str], bool]) -> list[str]:
    """Return the prompts: each word in a template, and phrases with each word.

    ``known`` tells whether an encoder knows all tokens of a text.  The fewer words it knows, the
    more phrases each of them is in.
    """
    words, adjectives, contexts = (
        [text for text in texts if known(text)] or texts
        for texts in (tuple(common_words()), ADJECTIVES, CONTEXTS)
    )
    prompts = [""]
    prompts += [TEMPLATES[i % len(TEMPLATES)].format(word) for i, word in enumerate(words)]
    for i in range(PHRASES):
        word, turn = words[i % len(words)], i // len(words)
        adjective = adjectives[(i + turn) % len(adjectives)]
        prompts.append(f"a {adjective} {word} {contexts[(i + 5 * turn) % len(contexts)]}")
    return list(dict.fromkeys(prompts))
