"""Leak and drift at one key or value matrix of the cross-attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from erasepro_convert.manifest import Feed
from erasepro_convert.probing.feature_pairs import FeaturePairs, MeasuredPairs


@dataclass(frozen=True)
class Measures:
    """What is measured for one feed, by prompt.

    ``leak_before`` is the leak in the original.  The distances are those between target and
    anchor, as shares of the other prompts' spread, as drift is.
    """

    leak: Tensor
    leak_before: Tensor
    distance_before: Tensor
    distance_after: Tensor
    drift: Tensor


def mean_over_matrices(measures: Sequence[Measures]) -> Measures:
    """The mean of each measure over the matrices, given the measures at each."""
    names = [field.name for field in fields(Measures)]
    return Measures(
        **{n: torch.stack([getattr(one, n) for one in measures]).mean(0) for n in names}
    )


def measure_matrix(
    before: Tensor,
    after: Tensor,
    unedited: Tensor,
    feeds: Mapping[Feed, Tensor],
    pairs: MeasuredPairs,
    *,
    up_to_constant: bool,
) -> dict[Feed, Measures]:
    """Measure one matrix (d × m; original and edited) with the features of each feed.

    ``unedited`` are the features that the original's text encoder feeds.  With ``up_to_constant``
    (for keys) what the outputs of all other prompts have moved by in common is no change.
    """
    matrix = EditedMatrix(before, after, unedited, feeds)
    targets, others = pairs.targets, pairs.others
    originals, moves = matrix.movement(others)
    shifts = common_movement(others, moves, up_to_constant=up_to_constant)
    start, ends = matrix.distances(targets, shifts)
    spread = others.spread(originals) or 1.0  # a zero matrix moves nothing
    unit = start
    if pairs.reference:
        squares = [
            _squares(unedited[word] @ before - (unedited[anchor] @ before)[anchor_of])
            for word, anchor, anchor_of in pairs.reference.pairs.parts()
        ]
        unit = pairs.reference.leak_unit(squares, targets, start)
    found = {}
    for feed in feeds:
        end = ends[feed]
        found[feed] = Measures(
            leak=share(end, unit),
            leak_before=share(start, unit),
            distance_before=start / (spread * targets.lengths.sqrt()),
            distance_after=end / (spread * targets.lengths.sqrt()),
            drift=drift(others, moves[feed], shifts[feed], spread),
        )
    return found


@dataclass(frozen=True)
class EditedMatrix:
    """One matrix (d × m) before and after the edit, and the features (N × d) that it is given.

    ``unedited`` are those of the original's text encoder.
    """

    before: Tensor
    after: Tensor
    unedited: Tensor
    feeds: Mapping[Feed, Tensor]

    def movement(self, prompts: FeaturePairs) -> tuple[list[Tensor], dict[Feed, list[Tensor]]]:
        """Return the original's outputs for the left features, and how far each feed moves them."""
        originals = []
        moves: dict[Feed, list[Tensor]] = {feed: [] for feed in self.feeds}
        for left, _, _ in prompts.parts():
            original = self.unedited[left] @ self.before
            originals.append(original)
            for feed, fed in self.feeds.items():
                moves[feed].append(fed[left] @ self.after - original)
        return originals, moves

    def distances(
        self, targets: FeaturePairs, shifts: Mapping[Feed, Tensor | int]
    ) -> tuple[Tensor, dict[Feed, Tensor]]:
        """Return how far target prompts are from the original's anchor prompts, by prompt.

        The first is the original's distance, the others those of each feed, less its shift.
        """
        starts = []
        ends: dict[Feed, list[Tensor]] = {feed: [] for feed in self.feeds}
        for target, anchor, anchor_of in targets.parts():
            goal = (self.unedited[anchor] @ self.before)[anchor_of]
            starts.append(_squares(self.unedited[target] @ self.before - goal))
            for feed, fed in self.feeds.items():
                ends[feed].append(_squares(fed[target] @ self.after - goal - shifts[feed]))
        by_feed = {feed: targets.norms_by_prompt(squares) for feed, squares in ends.items()}
        return targets.norms_by_prompt(starts), by_feed


def common_movement(
    others: FeaturePairs, moves: Mapping[Feed, list[Tensor]], *, up_to_constant: bool
) -> dict[Feed, Tensor | int]:
    """Return what the outputs of other prompts have moved by in common, 0 where that counts."""
    return {feed: others.mean(moved) if up_to_constant else 0 for feed, moved in moves.items()}


def drift(prompts: FeaturePairs, moves: list[Tensor], shift: Tensor | int, spread: float) -> Tensor:
    """Return the drift of each prompt, given how its outputs moved."""
    norms = prompts.norms_by_prompt([_squares(m - shift) for m in moves])
    return norms / (spread * prompts.lengths.sqrt())


def share(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 1 where the whole is zero: nothing was erased of what was not there."""
    return torch.where(whole > 0, part / whole, 1.0)


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(1)
