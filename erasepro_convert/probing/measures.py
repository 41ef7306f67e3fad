"""Leak and drift at one key or value matrix of the cross-attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from erasepro_convert.manifest import Feed
from erasepro_convert.probing.feature_pairs import MeasuredPairs
from erasepro_convert.probing.features import FedFeatures


@dataclass(frozen=True)
class Measures:
    """What is measured for one feed, by prompt.

    ``leak_before`` is the leak in the original.  The distances are those between target and
    anchor, as shares of the anchor's norm.
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
    unedited: FedFeatures,
    feeds: Mapping[Feed, FedFeatures],
    pairs: MeasuredPairs,
) -> dict[Feed, Measures]:
    """Measure one matrix (d × m; original and edited) with the features of each feed.

    ``unedited`` are the features that the original's text encoder feeds.
    """
    targets, others = pairs.targets, pairs.others
    anchors, starts, originals = [], [], []
    ends: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    moves: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    for target, anchor, anchor_of in targets.parts():
        goal = (unedited.at(anchor) @ before)[anchor_of]
        anchors.append(_squares(goal))
        starts.append(_squares(unedited.at(target) @ before - goal))
        for feed, fed in feeds.items():
            ends[feed].append(_squares(fed.at(target) @ after - goal))
    for other, _, _ in others.parts():
        original = unedited.at(other) @ before
        originals.append(_squares(original))
        for feed, fed in feeds.items():
            moves[feed].append(_squares(fed.at(other) @ after - original))
    anchor_norm, start = targets.norms_by_prompt(anchors), targets.norms_by_prompt(starts)
    original_norm = others.norms_by_prompt(originals)
    unit = start
    if pairs.reference:
        squares = [
            _squares(unedited.at(word) @ before - (unedited.at(anchor) @ before)[anchor_of])
            for word, anchor, anchor_of in pairs.reference.pairs.parts()
        ]
        unit = pairs.reference.leak_unit(squares, targets, start)
    found = {}
    for feed in feeds:
        end = targets.norms_by_prompt(ends[feed])
        found[feed] = Measures(
            leak=end / unit,
            leak_before=start / unit,
            distance_before=start / anchor_norm,
            distance_after=end / anchor_norm,
            drift=others.norms_by_prompt(moves[feed]) / original_norm,
        )
    return found


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(1)
