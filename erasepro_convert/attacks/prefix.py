"""``prefix``: a word before the prompt that leads the erased model back to the target.

Words are ranked without pictures, by how near the keys and values of the target's tokens (and of
the end token) come to those that the original model has for them; the best are then drawn.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext
from erasepro_convert.attacks.model import PromptSet
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language.prompts import whole_words
from erasepro_convert.sd1 import key_value_matrices
from erasepro_convert.sd1.keys import TEXT_LAYERS, TOKEN_EMBEDDING
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

DRAWN_WORDS = 3
"""How many of the best words are drawn."""

RANKING_PROMPTS = 2
"""How many prompts the words are ranked on."""

BATCH = 256
"""How many words are encoded at a time."""


def prefix_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each of the best words, the best word first."""
    for word in rank_words(context)[:DRAWN_WORDS]:
        prompts = {prompt: f"{word} {prompt}" for prompt in context.prompts}
        control = {
            prompt: f"{word} {other}" for prompt, other in context.with_words(NONSENSE).items()
        }
        yield AttackCase(
            attack="prefix",
            how=f"“{word} …”",
            attacked=PromptSet(context.erased.variant, prompts),
            original=PromptSet(context.original.variant, prompts),
            control=PromptSet(context.erased.variant, control),
        )


def rank_words(context: AttackContext) -> list[str]:
    """Return the candidate words, the one that leads nearest to the target first."""
    words = candidate_words(context.original.checkpoint, context.target, context.candidates)
    total = torch.zeros(len(words))
    matrices = [
        (
            context.original.checkpoint.read(name).float().T,
            context.erased.checkpoint.read(name).float().T,
        )
        for name in key_value_matrices()
    ]
    for number, prompt in enumerate(context.prompts[:RANKING_PROMPTS]):
        tokens = tokenize(prompt)
        start = prompt.lower().index(context.target.lower())
        first = tokens.covering(start, start + len(context.target))[0]
        length = tokens.count - first  # the target's tokens and all after them, end token included
        features = _features(context.original.checkpoint, [prompt], length)
        goals = [features @ before for before, _ in matrices]
        for begin in range(0, len(words), BATCH):
            batch = [f"{word} {prompt}" for word in words[begin : begin + BATCH]]
            prefixed = _features(context.erased.checkpoint, batch, length)
            for goal, (_, after) in zip(goals, matrices, strict=True):
                distance = (prefixed @ after - goal).square().sum((1, 2)).sqrt()
                total[begin : begin + BATCH] += distance / goal.norm()
            context.report(number * len(words) + begin + len(batch), len(words) * RANKING_PROMPTS)
    return [words[i] for i in total.argsort(stable=True).tolist()]


def candidate_words(source: SD1Checkpoint, target: str, count: int) -> list[str]:
    """Return the most frequent whole words of CLIP's vocabulary that can be tried.

    The model must have an embedding of the word, and the word must not be one of the target's.
    """
    known = source.read(TOKEN_EMBEDDING).any(dim=1).tolist()
    own = tokenize(target).ids
    fitting = (word for word, i in whole_words().items() if known[i] and i not in own)
    return [word for word, _ in zip(fitting, range(count), strict=False)]


def _features(source: SD1Checkpoint, prompts: Sequence[str], last: int) -> Tensor:
    """Return text features (n × last × d) at the last positions, the end token included."""
    tokens = [tokenize(prompt) for prompt in prompts]
    counts = [t.count for t in tokens]
    length = max(counts)
    encoder = TextEncoder(source.read, torch.float32)
    with torch.inference_mode():
        prefixes = Prefixes.from_token_ids(torch.tensor([t.ids[:length] for t in tokens]), counts)
        hidden = encoder.embed(prefixes)
        for number in range(1, TEXT_LAYERS + 1):
            hidden = encoder.layer(number)(hidden, prefixes)
        ends = torch.tensor(counts)[:, None] + torch.arange(-last, 0)
        norm: Callable[[Tensor], Tensor] = encoder.final_norm
        return norm(hidden)[prefixes.prefix_at.gather(1, ends)]
