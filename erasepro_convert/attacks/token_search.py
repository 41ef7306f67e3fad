"""A search for words that bring a loss down: greedy coordinate descent by token gradients.

Zou et al., *Universal and Transferable Adversarial Attacks on Aligned Language Models* (2023),
Algorithm 1: the gradient of the loss with respect to each word's embedding ranks all words that
could take its place; some of the best are tried, and the best of those is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel

from erasepro_convert.attacks.word_embedding import word_id
from erasepro_convert.clip.tokenizer import tokenize

STEPS = 20
"""How often a word is exchanged."""

TRIED = 16
"""How many exchanges are tried at each step."""

RANKED = 32
"""Exchanges are drawn among so many words for each place, best first by gradient."""

Loss = Callable[[Tensor], Tensor]
"""Gives the loss (B) of text features (B × P × T × d) of P prompts, each in B versions."""


@dataclass(frozen=True)
class Slots:
    """Token ids of prompts (P × T) with places for words: ``places`` (P × k), left to right."""

    ids: Tensor
    places: Tensor

    @classmethod
    def of(cls, prompts: Sequence[str], length: int) -> "Slots":
        """Read prompts that contain ``word_embedding.copies(k)`` where the words go."""
        ids = torch.tensor([tokenize(prompt).ids for prompt in prompts])[:, :length]
        places = [(row == word_id()).nonzero()[:, 0] for row in ids]
        return cls(ids, torch.stack(places))

    def filled(self, words: Tensor) -> Tensor:
        """Return the ids (B·P × T) with words (B × k) in their places."""
        count = len(words)
        ids = self.ids.repeat(count, 1, 1)
        places = self.places.expand(count, -1, -1)
        ids.scatter_(2, places, words[:, None].expand(-1, len(self.ids), -1))
        return ids.flatten(0, 1)


def search_words(
    encoder: CLIPTextModel,
    prompts: Sequence[str],
    count: int,
    length: int,
    candidates: Tensor,
    loss: Loss,
    seed: int,
    report: Callable[[int, int], None],
) -> Tensor:
    """Return the best words (k) that a search finds for the place of ``copies(k)`` in prompts.

    ``length`` is how many positions of prompts the loss reads, ``candidates`` (V) are the tokens
    to choose from.  ``report`` gets the steps done and the total.
    """
    generator = torch.Generator().manual_seed(seed)
    slots = Slots.of(prompts, length)
    table = encoder.get_input_embeddings().weight.detach()[candidates]
    best = candidates[torch.randint(len(candidates), (count,), generator=generator)]
    least = float(_losses(encoder, slots, best[None], loss))
    for step in range(STEPS):
        report(step, STEPS)
        ranks = (_gradient(encoder, slots, best, loss) @ table.T).argsort(1)[:, :RANKED]
        places = torch.randint(count, (TRIED,), generator=generator)
        chosen = torch.randint(ranks.shape[1], (TRIED,), generator=generator)
        versions = best.repeat(TRIED, 1)
        versions[torch.arange(TRIED), places] = candidates[ranks[places, chosen]]
        losses = _losses(encoder, slots, versions, loss)
        if float(losses.min()) < least:
            least, best = float(losses.min()), versions[losses.argmin()]
    return best


@torch.no_grad()
def _losses(encoder: CLIPTextModel, slots: Slots, words: Tensor, loss: Loss) -> Tensor:
    """Return the loss (B) of words (B × k)."""
    features = encoder(slots.filled(words).to(encoder.device)).last_hidden_state
    return loss(features.unflatten(0, (len(words), -1)).cpu())


def _gradient(encoder: CLIPTextModel, slots: Slots, words: Tensor, loss: Loss) -> Tensor:
    """Return the gradient (k × d) of the loss with respect to the embeddings of words (k)."""
    table = encoder.get_input_embeddings()
    added = torch.zeros(len(words), table.weight.shape[1], requires_grad=True)
    rows = torch.arange(len(slots.ids))[:, None]

    def add(_: object, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        del inputs
        moved = torch.zeros_like(output).index_put((rows, slots.places), added.to(output))
        return output + moved

    handle = table.register_forward_hook(add)
    try:
        with torch.enable_grad():
            features = encoder(slots.filled(words[None]).to(encoder.device)).last_hidden_state
            (gradient,) = torch.autograd.grad(loss(features[None].cpu()).sum(), added)
    finally:
        handle.remove()
    return gradient
