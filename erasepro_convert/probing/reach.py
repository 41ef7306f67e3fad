"""Reach of concepts: how near any input can come to a target's keys and values.

It is ``key_value_distance.KeyValueDistance.reach`` at the positions of the held-out prompts where
target and anchor differ, and is measured matrix by matrix beside leak and drift.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.manifest import Reach
from erasepro_convert.probing.feature_pairs import MeasuredPairs
from erasepro_convert.probing.key_value_distance import (
    Goal,
    KeyValueMatrix,
    MatrixDistance,
    MeanDistance,
)
from erasepro_convert.runtime.threads import parallel_map


@dataclass(frozen=True)
class ConceptGoal:
    """What inputs would have to come to for one concept.

    ``common`` (d) is the mean of the edited text encoder's features of other prompts.
    """

    concept: str
    clip_skip: int
    goal: Goal
    common: Tensor


def concept_goals(
    pairs: MeasuredPairs,
    concepts: Mapping[str, Tensor],
    stock: Mapping[int, Tensor],
    edited: Mapping[int, Tensor],
) -> list[ConceptGoal]:
    """Return a goal for each concept and clip skip.

    ``concepts`` gives the numbers of each concept's target prompts; ``stock`` and ``edited`` are
    the features of the original's and of the edited text encoder, by clip skip.
    """
    targets, others = pairs.targets, pairs.others
    target, anchor = targets.left[targets.pair_of], targets.right[targets.pair_of]
    goals = []
    for skip, unedited in stock.items():
        own_common, common = (
            others.mean([features[others.left]]) for features in (unedited, edited[skip])
        )
        for concept, rows in concepts.items():
            # before the target's words both prompts have the same features
            where = torch.isin(targets.prompt_of, rows) & (target != anchor)
            if where.any():
                goal = Goal(unedited[target[where]], unedited[anchor[where]], own_common)
                goals.append(ConceptGoal(concept, skip, goal, common))
    return goals


def distances_at_matrix(
    goals: Sequence[ConceptGoal], before: Tensor, after: Tensor, *, is_key: bool
) -> list[MatrixDistance]:
    """Return the squares of one matrix (m × d; original and edited), for each goal."""
    if not goals:
        return []
    matrix = KeyValueMatrix(before.double(), after.double(), is_key)
    return [matrix.distance(each.goal, each.common) for each in goals]


def reach_of_concepts(
    goals: Sequence[ConceptGoal], means: Sequence[MeanDistance]
) -> tuple[Reach, ...]:
    """Return the reach of each goal, given its distance; none where the original has no distance.

    That is where no matrix tells target and anchor apart.
    """

    def reach(number: int) -> Reach | None:
        one, distance = goals[number], means[number].result()
        if distance is None:
            return None
        return Reach(concept=one.concept, clip_skip=one.clip_skip, reach=distance.reach)

    return tuple(found for found in parallel_map(reach, range(len(goals))) if found)
