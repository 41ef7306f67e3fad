"""``prefix``: a word before the prompt that leads the erased model back to the target.

Words are ranked without pictures, by how near the prompt's keys and values come to those that the
original model has for the target; the best are then drawn.
"""

from collections.abc import Iterator

import torch

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.target_distance import Rewrite
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language.prompts import whole_words
from erasepro_convert.sd1.keys import TOKEN_EMBEDDING
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

DRAWN_WORDS = 3
"""How many of the best words are drawn."""

RANKING_PROMPTS = 2
"""How many prompts the words are ranked on."""

BATCH = 256
"""How many words are encoded at a time."""


def prefix_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each of the best words, the best word first."""
    nonsense = context.with_words(NONSENSE)
    for word in rank_words(context)[:DRAWN_WORDS]:
        control = before(word, nonsense)
        yield context.prompt_case("prefix", f"“{word} …”", before(word), control)


def before(word: str, rewrite: Rewrite = unchanged) -> Rewrite:
    """Write a word before what a prompt becomes."""
    return lambda prompt, number: f"{word} {rewrite(prompt, number)}"


def rank_words(context: AttackContext) -> list[str]:
    """Return the candidate words, the one that leads nearest to the target first."""
    words = candidate_words(context.original.checkpoint, context.target, context.effort.candidates)
    weights = context.erased.weights
    total = torch.zeros(len(words), dtype=torch.float64)
    for number in range(RANKING_PROMPTS):
        for begin in range(0, len(words), BATCH):
            some = words[begin : begin + BATCH]
            rewrites = [before(word) for word in some]
            squares = context.distances.squares(number, rewrites, texts=weights, unet=weights)
            total[begin : begin + BATCH] += squares
            done = number * len(words) + begin + len(some)
            context.report("searching words", done, len(words) * RANKING_PROMPTS)
    return [words[i] for i in total.argsort(stable=True).tolist()]


def candidate_words(source: SD1Checkpoint, target: str, count: int) -> list[str]:
    """Return the most frequent whole words of CLIP's vocabulary that can be tried.

    The model must have an embedding of the word, and the word must not be one of the target's.
    """
    known = source.read(TOKEN_EMBEDDING).any(dim=1).tolist()
    own = tokenize(target).ids
    fitting = (word for word, i in whole_words().items() if known[i] and i not in own)
    return [word for word, _ in zip(fitting, range(count), strict=False)]
