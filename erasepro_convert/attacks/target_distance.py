"""How near prompts come to the keys and values that the original model has for a target.

Each prompt is compared from the last token of the target's words
to EOS, and a few positions of the padding behind it; positions are counted from EOS, so that an
attack may write other words, or more of them, before what follows the target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from transformers import CLIPTextModel

from erasepro_convert.clip.fed_features import fed_features
from erasepro_convert.clip.text_encoder import Prefixes, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.erase.pairing import held_out_pair, span_of
from erasepro_convert.probing.key_value_distance import Goal, KeyValueDistance
from erasepro_convert.recipe import Concept
from erasepro_convert.recipe.fields import PLACEHOLDER
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1.keys import POSITIONS

PADDING = 3
"""Positions behind EOS that are compared: pictures attend to padding, whose positions are alike."""

Rewrite = Callable[[str, int], str]
"""Writes a prompt that names the target in another way, given its number among its kind."""

Positions = Sequence[tuple[int, int]]
"""Pairs of a prompt's number and a position."""


@dataclass(frozen=True)
class Weights:
    """The weights of a model by original name; models of one digest have equal weights.

    ``rows`` reads rows of the token embedding; without it the whole tensor is read.
    """

    digest: str
    read: ReadTensor = field(compare=False)
    rows: ReadRows | None = field(compare=False, default=None)


class TargetDistances:
    """Distances from the original's keys and values of one concept's target."""

    def __init__(
        self,
        original: Weights,
        concept: Concept,
        templates: Sequence[str],
        others: Sequence[str],
    ) -> None:
        """Take templates of prompts that name the target, and prompts about something else.

        Raises RecipeError for a concept that CLIP does not read, or a prompt that does not fit.
        """
        self._original, self._concept = original, concept
        self._templates, self._others = tuple(templates), tuple(others)
        pairs = [held_out_pair(concept, template) for template in templates]
        self.prompts = tuple(pair.target for pair in pairs)
        self._anchors = tuple(pair.anchor for pair in pairs)
        self._lengths = []
        anchors: list[tuple[int, int]] = []
        for row, (template, pair) in enumerate(zip(templates, pairs, strict=True)):
            last = span_of(template, concept.target, tokenize(pair.target))[1] - 1
            self._lengths.append(len(pair.positions) - last)
            behind = range(pair.positions[-1] + 1, pair.positions[-1] + 1 + PADDING)
            places = (*pair.positions[last:], *behind)
            anchors += [(row, min(place, POSITIONS - 1)) for place in places]
        self._anchor_positions = anchors
        self._forms: dict[tuple[str, str], KeyValueDistance] = {}

    @property
    def digest(self) -> str:
        """A digest of the original and of the prompts."""
        return json_digest([self._original.digest, self.prompts, self._anchors, self._others])

    def aimed_at(self, words: str) -> "TargetDistances":
        """Return the distances from what the original has for other words in the target's place."""
        concept = self._concept.model_copy(update={"target": words})
        return TargetDistances(self._original, concept, self._templates, self._others)

    def encode(self, encoder: CLIPTextModel, words: str) -> Tensor:
        """Return what an encoder feeds to the U-Net (N × d) with words in the target's place.

        Gradients pass through it.
        """
        prompts = [template.replace(PLACEHOLDER, words) for template in self._templates]
        return encode(encoder, [tokenize(p).ids for p in prompts], self.positions(prompts))

    def positions(self, prompts: Sequence[str]) -> Positions:
        """Return where prompts are compared that are written in the place of ``prompts``."""
        return _tails(prompts, self._lengths)

    def form(self, texts: Weights, unet: Weights) -> KeyValueDistance:
        """Return distance² as a form in what ``texts`` feeds to the matrices of ``unet``."""
        key = texts.digest, unet.digest
        if key not in self._forms:
            self._forms[key] = KeyValueDistance.of(
                self._original.read, unet.read, self.goal, self._common(texts)
            )
        return self._forms[key]

    def of(self, rewrite: Rewrite, texts: Weights, unet: Weights) -> float:
        """Return the distance of rewritten prompts, root mean square over prompts."""
        prompts = [rewrite(prompt, number) for number, prompt in enumerate(self.prompts)]
        features = _features(texts, prompts, self.positions(prompts))
        return self.form(texts, unet).distance(features)

    def squares(
        self, number: int, rewrites: Sequence[Rewrite], *, texts: Weights, unet: Weights
    ) -> Tensor:
        """Return the mean distance² of one prompt, by number, for each way to rewrite it."""
        prompts = [rewrite(self.prompts[number], number) for rewrite in rewrites]
        positions = _tails(prompts, [self._lengths[number]] * len(prompts))
        features = _features(texts, prompts, positions).unflatten(0, (len(prompts), -1))
        start = sum(length + PADDING for length in self._lengths[:number])
        form = self.form(texts, unet).at(slice(start, start + features.shape[1]))
        return form.squares(features).mean(1)

    def first(self, count: int) -> "TargetDistances":
        """Return the distances in the first prompts alone."""
        templates = self._templates[:count]
        return TargetDistances(self._original, self._concept, templates, self._others)

    @cached_property
    def ends(self) -> list[int]:
        """Which of the N positions are EOS."""
        stops = accumulate(length + PADDING for length in self._lengths)
        return [stop - PADDING - 1 for stop in stops]

    @cached_property
    def goal(self) -> Goal:
        """The original's features of the target and of the anchor at the N positions."""
        return Goal(
            target=_features(self._original, self.prompts, self.positions(self.prompts)),
            anchor=_features(self._original, self._anchors, self._anchor_positions),
            common=self._common(self._original),
        )

    def _common(self, texts: Weights) -> Tensor:
        """Return the mean feature (d) of prompts that name no target, BOS left out."""
        counts = [tokenize(prompt).count for prompt in self._others]
        places = [(row, place) for row, count in enumerate(counts) for place in range(1, count)]
        return _features(texts, self._others, places).mean(0)


def _tails(prompts: Sequence[str], lengths: Sequence[int]) -> Positions:
    """Return the last positions of prompts: ``lengths`` of each up to EOS, PADDING behind it."""
    ends = [tokenize(prompt).count for prompt in prompts]
    return [
        (row, min(place, POSITIONS - 1))
        for row, (end, length) in enumerate(zip(ends, lengths, strict=True))
        for place in range(end - length, end + PADDING)
    ]


def encode(encoder: CLIPTextModel, ids: Sequence[Sequence[int]], positions: Positions) -> Tensor:
    """Return what an encoder feeds to the U-Net at some positions of prompts (N × d)."""
    rows, places = (list(side) for side in zip(*positions, strict=True))
    read = torch.tensor(ids, device=encoder.device)[:, : max(places) + 1]
    features: Tensor = encoder(read).last_hidden_state[rows, places]
    return features


@torch.no_grad()
def _features(texts: Weights, prompts: Sequence[str], positions: Positions) -> Tensor:
    """Return what a text encoder feeds to the U-Net at some positions of prompts (N × d)."""
    rows, places = (list(side) for side in zip(*positions, strict=True))
    lengths = [0] * len(prompts)
    for row, place in positions:
        lengths[row] = max(lengths[row], place + 1)
    ids = torch.tensor([tokenize(prompt).ids for prompt in prompts])
    prefixes = Prefixes.from_token_ids(ids, lengths)
    encoder = TextEncoder(texts.read, torch.float32, texts.rows)
    return fed_features(encoder, prefixes, [1])[1][prefixes.prefix_at[rows, places]]
