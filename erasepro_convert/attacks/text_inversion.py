"""``text-inversion``: embeddings whose keys and values are the original target's, without pictures.

Textual inversion trains a word on pictures, through the U-Net.  All that a word says to the U-Net
is its keys and values, so that a search for those needs the text encoder alone, and takes seconds.
It has to know the original's weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from erasepro_convert.attacks.case import (
    NONSENSE,
    AttackCase,
    AttackContext,
    Distances,
)
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.attacks.target_distance import TargetDistances
from erasepro_convert.attacks.word_embedding import (
    copies,
    known_embeddings,
    replacing_word_embedding,
)
from erasepro_convert.runtime.hashing import json_digest

TOKENS = (1, 4)
"""How many embeddings stand for the target, for each case."""

STEPS = 30
"""Steps of L-BFGS.  On the demo model twice as many come 3 % nearer, and Adam needs over 200."""


def text_inversion_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each number of tokens."""
    erased, original = context.erased, context.original
    own = context.distances
    nonsense = own.aimed_at(NONSENSE)
    seeds = context.searches
    runs = len(TOKENS) * (seeds + 2)
    for number, tokens in enumerate(TOKENS):
        searches = [
            *(_Search(erased, own, tokens, seed) for seed in range(seeds)),
            _Search(original, own, tokens, 0),
            _Search(erased, nonsense, tokens, 0),
        ]
        near = []
        for done, search in enumerate(searches, start=number * len(searches)):
            context.report("inverting text", done, runs)
            near.append(search.distance(own))
        prompts = context.rewritten(context.with_words(copies(tokens)))
        sets = [PromptSet(search.variant, prompts) for search in searches]
        yield AttackCase(
            "text-inversion",
            f"{tokens} token{'s' if tokens > 1 else ''}",
            attacked=tuple(sets[:seeds]),
            original=(sets[seeds],),
            control=(sets[-1],),
            distances=Distances(fmean(near[:seeds]), near[seeds], near[-1]),
        )


@dataclass(frozen=True)
class _Search:
    """A search for embeddings in one model; it runs when its result is first asked for."""

    model: LoadedModel
    goal: TargetDistances
    tokens: int
    seed: int

    @cached_property
    def embeddings(self) -> Tensor:
        """The embeddings (tokens × d)."""
        return invert(self.model, self.goal, self.tokens, self.seed)

    @cached_property
    def variant(self) -> ModelVariant:
        """The model with these embeddings."""

        @contextmanager
        def prepare(_: Advance) -> Iterator[PreparedPipeline]:
            pipeline = self.model.pipeline
            with replacing_word_embedding(pipeline.text_encoder, self.embeddings):
                yield PreparedPipeline(pipeline)

        told = ["text-inversion", self.model.digest, self.goal.digest, self.tokens, self.seed]
        return ModelVariant(json_digest([*told, STEPS]), prepare)

    def distance(self, goal: TargetDistances) -> float:
        """Return how near they come to a goal."""
        with replacing_word_embedding(self.model.text_encoder, self.embeddings), torch.no_grad():
            form = goal.form(self.model.weights, self.model.weights)
            return form.distance(goal.encode(self.model.text_encoder, copies(self.tokens)))


def invert(model: LoadedModel, goal: TargetDistances, tokens: int, seed: int) -> Tensor:
    """Return embeddings (tokens × d) that bring a word nearest to a goal, in its prompts.

    The search is L-BFGS with a line search (Nocedal and Wright, *Numerical Optimization*, 2006,
    7.2).  It starts at a random point of the normal distribution that the model's own embeddings
    have by mean and variance.
    """
    encoder = model.text_encoder
    form = goal.form(model.weights, model.weights)
    table = known_embeddings(encoder)
    noise = torch.randn(tokens, table.shape[1], generator=torch.Generator().manual_seed(seed))
    embeddings = (table.mean(0) + noise.to(table) * table.std(0)).requires_grad_()
    search = torch.optim.LBFGS(
        [embeddings], max_iter=STEPS, history_size=STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        squares = form.squares(goal.encode(encoder, copies(tokens)).cpu()).mean()
        squares.backward()
        return squares

    with replacing_word_embedding(encoder, embeddings), torch.enable_grad():
        search.step(loss)
    return embeddings.detach()
