"""Leak and drift at one key or value matrix of the cross-attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from erasepro_convert.manifest import Feed
from erasepro_convert.probing.feature_pairs import MeasuredPairs


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
    targets, others = pairs.targets, pairs.others
    starts, originals = [], []
    ends: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    moves: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    for other, _, _ in others.parts():
        original = unedited[other] @ before
        originals.append(original)
        for feed, fed in feeds.items():
            moves[feed].append(fed[other] @ after - original)
    shifts = {feed: others.mean(moved) if up_to_constant else 0 for feed, moved in moves.items()}
    for target, anchor, anchor_of in targets.parts():
        goal = (unedited[anchor] @ before)[anchor_of]
        starts.append(_squares(unedited[target] @ before - goal))
        for feed, fed in feeds.items():
            ends[feed].append(_squares(fed[target] @ after - goal - shifts[feed]))
    start = targets.norms_by_prompt(starts)
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
        end = targets.norms_by_prompt(ends[feed])
        found[feed] = Measures(
            leak=_share(end, unit),
            leak_before=_share(start, unit),
            distance_before=start / (spread * targets.lengths.sqrt()),
            distance_after=end / (spread * targets.lengths.sqrt()),
            drift=others.norms_by_prompt([_squares(m - shifts[feed]) for m in moves[feed]])
            / (spread * others.lengths.sqrt()),
        )
    return found


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 1 where the whole is zero: nothing was erased of what was not there."""
    return torch.where(whole > 0, part / whole, 1.0)


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(1)
