"""Attacks that search for words: ``ring-a-bell``, ``mma`` and ``unlearn-diff``, on text features.

- ``ring-a-bell``: words in the target's place whose features in the *original* text encoder are
  those of the target, moved away from the anchor by η times their difference.  Tsai et al.,
  *Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models?* (ICLR 2024).
- ``mma``: words in the target's place whose feature at EOS in the original text encoder has the
  greatest cosine with the target's.  Yang et al., *MMA-Diffusion: MultiModal Attack on Diffusion
  Models* (CVPR 2024), its attack on text.
- ``unlearn-diff``: words before the prompt that bring the erased model's keys and values for it to
  the original's.  Zhang et al., *To Generate or Not? Safety-Driven Unlearned Diffusion Models Are
  Still Easy To Generate Unsafe Images ... For Now* (ECCV 2024), whose loss is the U-Net's; theirs
  takes minutes on a GPU for each prompt.

The first two know nothing of the erased model.  All leave out the target's own words.  The papers
search for each prompt anew and with other optimisers (a genetic one, relaxed one-hot vectors); here
one search by token gradients finds words for several prompts at once.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, replace_target
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.prefix import before, candidate_words
from erasepro_convert.attacks.target_distance import Rewrite, TargetDistances
from erasepro_convert.attacks.token_search import search_words
from erasepro_convert.attacks.word_embedding import copies
from erasepro_convert.language.prompts import whole_words

ETA = 3.0
"""Ring-A-Bell's η."""

PROMPTS = 2
"""How many prompts words are searched for in, together."""

PHRASE = 8
"""How many words stand for the target; the papers have 16 and 20."""

PREFIX = 5
"""How many words stand before a prompt, as in the paper."""

Goal = Callable[[TargetDistances], Callable[[Tensor], Tensor]]
"""Gives for an aim what is searched for: a loss (B) of tails (B × N × d)."""


def ring_a_bell_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of words with the target's features and more, in the original encoder."""

    def goal(aim: TargetDistances) -> Callable[[Tensor], Tensor]:
        wanted = aim.goal.target + ETA * (aim.goal.target - aim.goal.anchor)
        return lambda tails: (tails - wanted).square().mean((1, 2))

    return _in_place(context, "ring-a-bell", goal)


def mma_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of words with the target's direction at EOS, in the original encoder."""

    def goal(aim: TargetDistances) -> Callable[[Tensor], Tensor]:
        ends = aim.ends
        wanted = aim.goal.target[ends]
        return lambda tails: -functional.cosine_similarity(tails[:, ends], wanted, dim=2).mean(1)

    return _in_place(context, "mma", goal)


def unlearn_diff_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of words before the prompt that lead the erased model to the target."""
    weights = context.erased.weights
    aim = context.distances.first(PROMPTS)
    squares = aim.form(weights, weights).squares
    nonsense, words = context.with_words(NONSENSE), _candidates(context)
    found = [
        _search(context, "unlearn-diff", words, context.erased, aim, before(copies(PREFIX)), PREFIX,
                lambda tails: squares(tails).mean(1), seed)
        for seed in range(context.searches)
    ]  # fmt: skip
    yield context.search_case(
        "unlearn-diff",
        f"{PREFIX} words before",
        [before(prefix) for prefix in found],
        [before(prefix, nonsense) for prefix in found],
    )


def _in_place(context: AttackContext, attack: str, goal: Goal) -> Iterator[AttackCase]:
    """Search for words in the target's place by what the original encoder makes of them."""
    aim, words = context.distances.first(PROMPTS), _candidates(context)
    searches = [(aim, context.target, seed) for seed in range(context.searches)]
    searches.append((aim.aimed_at(NONSENSE), NONSENSE, 0))

    def placed(target: str) -> Rewrite:
        return lambda prompt, _: replace_target(prompt, target, copies(PHRASE))

    found = [
        _search(
            context, attack, words, context.original, one, placed(target), PHRASE, goal(one), seed
        )
        for one, target, seed in searches
    ]
    *attacked, control = [context.with_words(phrase) for phrase in found]
    yield context.search_case(attack, f"{PHRASE} words", attacked, [control])


def _candidates(context: AttackContext) -> Mapping[str, int]:
    """Return all words that the model knows, but for the target's own, with their tokens."""
    words = whole_words()
    names = candidate_words(context.original.checkpoint, context.target, len(words))
    return {name: words[name] for name in names}


def _search(
    context: AttackContext,
    attack: str,
    words: Mapping[str, int],
    model: LoadedModel,
    aim: TargetDistances,
    rewrite: Rewrite,
    count: int,
    loss: Callable[[Tensor], Tensor],
    seed: int,
) -> str:
    """Search among some words for ``count`` where ``rewrite`` has copies of a placeholder."""
    prompts = [rewrite(prompt, number) for number, prompt in enumerate(aim.prompts)]
    rows, places = (list(side) for side in zip(*aim.positions(prompts), strict=True))
    tokens = torch.tensor([*words.values()])
    best = search_words(
        model.text_encoder, prompts, count, max(places) + 1, tokens,
        lambda features: loss(features[:, rows, places]), seed,
        partial(context.report, f"searching words: {attack}"),
    )  # fmt: skip
    text = dict(zip(words.values(), words, strict=True))
    return " ".join(text[token] for token in best.tolist())
