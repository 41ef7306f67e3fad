"""``prefix``: a word before the prompt that leads the erased model back to the target.

Words are ranked without pictures, by how near the keys and values of the target's tokens (and of
the end token) come to those that the original model has for them; the best are then drawn.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from erasepro_convert.attacks.case import NONSENSE, Case, Trial
from erasepro_convert.attacks.model import PromptSet
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.probing.neighbours import whole_words
from erasepro_convert.sd1 import key_value_matrices
from erasepro_convert.sd1.keys import TEXT_LAYERS, TOKEN_EMBEDDING
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

BEST = 3
"""Words that are drawn."""

RANKED_ON = 2
"""Prompts that words are ranked on."""

BATCH = 256


def trials(case: Case) -> Iterator[Trial]:
    """One for each of the best words, best first; whoever reads takes the worst case."""
    for word in best(case)[:BEST]:
        asked = {prompt: f"{word} {prompt}" for prompt in case.prompts}
        control = {prompt: f"{word} {other}" for prompt, other in case.saying(NONSENSE).items()}
        yield Trial(
            attack="prefix",
            how=f"“{word} …”",
            attacked=PromptSet(case.erased.subject, asked),
            original=PromptSet(case.original.subject, asked),
            control=PromptSet(case.erased.subject, control),
        )


def best(case: Case) -> list[str]:
    """The candidates, nearest first.

    They are the most frequent whole words of CLIP's vocabulary that the model has an embedding of
    and that are not among the target's own.
    """
    words = candidates(case.original.source, case.target, case.candidates)
    total = torch.zeros(len(words))
    matrices = [
        (case.original.source.read(name).float().T, case.erased.source.read(name).float().T)
        for name in key_value_matrices()
    ]
    for number, prompt in enumerate(case.prompts[:RANKED_ON]):
        tokens = tokenize(prompt)
        start = prompt.lower().index(case.target.lower())
        first = tokens.covering(start, start + len(case.target))[0]
        length = tokens.count - first  # the target's tokens and all behind, up to the end token
        was = _features(case.original.source, [prompt], length)
        goals = [was @ before for before, _ in matrices]
        for begin in range(0, len(words), BATCH):
            some = [f"{word} {prompt}" for word in words[begin : begin + BATCH]]
            now = _features(case.erased.source, some, length)
            for goal, (_, after) in zip(goals, matrices, strict=True):
                away = (now @ after - goal).square().sum((1, 2)).sqrt()
                total[begin : begin + BATCH] += away / goal.norm()
            case.report(number * len(words) + begin + len(some), len(words) * RANKED_ON)
    return [words[i] for i in total.argsort(stable=True).tolist()]


def candidates(source: SD1Checkpoint, target: str, count: int) -> list[str]:
    """See ``best``."""
    known = source.read(TOKEN_EMBEDDING).any(dim=1).tolist()
    own = tokenize(target).ids
    fitting = (word for word, i in whole_words().items() if known[i] and i not in own)
    return [word for word, _ in zip(fitting, range(count), strict=False)]


def _features(source: SD1Checkpoint, prompts: Sequence[str], last: int) -> Tensor:
    """The text features (n × last × d) at the last positions up to the end token."""
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
