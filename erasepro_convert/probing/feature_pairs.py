"""Pairs of text features whose distances are measured, and the prompts that they belong to.

A feature is given by the number of its prefix: see ``clip.text_encoder.Prefixes``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Prefixes
from erasepro_convert.clip.tokenizer import Tokens
from erasepro_convert.erase.pairing import HeldOutPair

PAIRS_AT_ONCE = 2048
"""The most pairs of features that are measured together."""

Positions = tuple[str, Sequence[int]]
"""A prompt, and some of its positions."""


@dataclass(frozen=True)
class FeaturePairs:
    """Pairs of features at the positions of some prompts.

    ``left`` and ``right`` are the distinct pairs.  For each position of each prompt ``pair_of``
    gives its distinct pair, and ``prompt_of`` its prompt.
    """

    prompts: tuple[str, ...]
    left: Tensor
    right: Tensor
    pair_of: Tensor
    prompt_of: Tensor

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some pairs at a time: left, the distinct ones of right, and which of these each has."""
        lefts, rights = self.left.split(PAIRS_AT_ONCE), self.right.split(PAIRS_AT_ONCE)
        for left, right in zip(lefts, rights, strict=True):
            yield left, *right.unique(return_inverse=True)

    def norms_by_prompt(self, squares: list[Tensor]) -> Tensor:
        """The root of the sum over each prompt's positions, given squares of the distinct pairs."""
        by_pair = torch.cat(squares)
        sums = torch.zeros(len(self.prompts), dtype=by_pair.dtype)
        return sums.index_add(0, self.prompt_of, by_pair[self.pair_of]).sqrt()

    def spread(self, parts: list[Tensor]) -> float:
        """Return the root mean square distance of outputs from their mean, over all positions.

        ``parts`` (n × m) are the outputs at the left features of the distinct pairs.
        """
        mean = self.mean(parts)
        distances = [(part - mean).square().sum(1) for part in parts]
        return float(self._mean(torch.cat(distances).double()).sqrt())

    def mean(self, parts: list[Tensor]) -> Tensor:
        """Return the mean (m) over all positions of ``parts`` (n × m), as ``spread`` has them."""
        return self._mean(torch.cat(parts).double()).to(parts[0].dtype)

    def _mean(self, values: Tensor) -> Tensor:
        """The mean over all positions of values (n, n × m) of the distinct pairs."""
        counts = self.pair_of.bincount(minlength=len(values)).to(values.dtype)
        return counts @ values / counts.sum()

    @property
    def lengths(self) -> Tensor:
        """The number of positions of each prompt that are measured."""
        return self.prompt_of.bincount(minlength=len(self.prompts))


@dataclass(frozen=True)
class ReferencePairs:
    """Pairs of reference words and anchor, where a target was erased before.

    The reference words take the target's place in its prompts; ``target_prompt_of`` gives the
    target prompt that each prompt of ``pairs`` was made from.
    """

    pairs: FeaturePairs
    target_prompt_of: Tensor

    def leak_unit(self, squares: list[Tensor], targets: FeaturePairs, start: Tensor) -> Tensor:
        """The distance that leak counts as 1, by target prompt.

        It is the root mean square over positions and reference words, from the ``squares`` of the
        distinct pairs, and ``start`` for prompts without reference words.
        """
        by_position = self.pairs.norms_by_prompt(squares).square() / self.pairs.lengths
        sums = torch.zeros_like(start).index_add(0, self.target_prompt_of, by_position)
        counts = self.target_prompt_of.bincount(minlength=len(start))
        return torch.where(counts > 0, (targets.lengths * sums / counts).sqrt(), start)


@dataclass(frozen=True)
class MeasuredPairs:
    """All pairs that a probe measures.

    ``targets`` pairs target prompts with anchor prompts, ``others`` other prompts with themselves;
    ``reference`` is None where no target was erased before.
    """

    targets: FeaturePairs
    others: FeaturePairs
    reference: ReferencePairs | None


def find_prefixes(tokens: Mapping[str, Tokens]) -> tuple[Prefixes, dict[str, Tensor]]:
    """Find the distinct prefixes of prompts, and the one that ends at each position of each."""
    length = max(t.count for t in tokens.values())
    ids = torch.tensor([t.ids[:length] for t in tokens.values()])
    prefixes = Prefixes.from_token_ids(ids, [t.count for t in tokens.values()])
    return prefixes, dict(zip(tokens, prefixes.prefix_at, strict=True))


def pair_with_anchors(
    prefix_at: Mapping[str, Tensor], pairs: Sequence[HeldOutPair]
) -> FeaturePairs:
    """Pair the positions 1 … EOS of target prompts with those of their anchor prompts.

    ``prefix_at`` gives the prefix that ends at each position of a prompt.
    """
    return _pair(
        prefix_at,
        [((p.target, range(1, len(p.positions))), (p.anchor, p.positions[1:])) for p in pairs],
    )


def pair_with_themselves(
    prefix_at: Mapping[str, Tensor], lengths: Iterable[tuple[str, int]]
) -> FeaturePairs:
    """Pair the positions 1 … EOS of prompts with themselves, given their lengths."""
    positions = [(prompt, range(1, length)) for prompt, length in lengths]
    return _pair(prefix_at, list(zip(positions, positions, strict=True)))


def _pair(
    prefix_at: Mapping[str, Tensor], measured: Sequence[tuple[Positions, Positions]]
) -> FeaturePairs:
    """Pair positions of left prompts with positions of right ones; a pair counts for the left."""
    left, right = (
        torch.cat([prefix_at[prompt][list(positions)] for prompt, positions in side])
        for side in zip(*measured, strict=True)
    )
    counts = torch.tensor([len(positions) for (_, positions), _ in measured])
    distinct, pair_of = torch.stack([left, right]).unique(dim=1, return_inverse=True)
    return FeaturePairs(
        prompts=tuple(prompt for (prompt, _), _ in measured),
        left=distinct[0],
        right=distinct[1],
        pair_of=pair_of,
        prompt_of=torch.arange(len(measured)).repeat_interleave(counts),
    )
