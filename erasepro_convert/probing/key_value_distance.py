"""How near text features come to a target's keys and values: what attacks on text minimise.

The U-Net reads a prompt through its cross-attention's keys and values alone.  With KV_o a matrix of
the original, KV_e that of another checkpoint, t and a the original's features of a target and of
its anchor at N positions, and f the features that the other checkpoint's U-Net is given there,

    distance² = mean over matrices and positions of ‖KV_e f − KV_o t‖² / u²,
    u² = mean over positions of ‖KV_o a − KV_o t‖².

It is 0 where the U-Net is given what the original was given for the target, and 1 where that is as
far away as the anchor was.  Keys are compared up to a constant, what all prompts have in common,
since softmax does not see it.

For all f together that is one quadratic form, so that its least value over *any* f, which no prompt
and no embedding can undercut, is one least-squares solve (``reach``).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1 import cross_attentions, key_value_matrices

RANK = 1e-6
"""Eigenvalues of the form below this share of the largest are what float32 rounds to."""


@dataclass(frozen=True)
class Goal:
    """The original's features of a target and of its anchor at the same N positions (N × d).

    ``common`` (d) is the mean of its features of other prompts.
    """

    target: Tensor
    anchor: Tensor
    common: Tensor


@dataclass(frozen=True)
class KeyValueDistance:
    """distance² at each of N positions: ‖f − m‖²_H − 2⟨b, f − m⟩ + c of features f.

    ``common`` is m (d), the mean of this checkpoint's features of other prompts: without it, what
    all features have in common would take the digits.  ``metric`` is H (d × d), ``slopes`` b
    (N × d), ``constants`` c (N), in float64.
    """

    common: Tensor
    metric: Tensor
    slopes: Tensor
    constants: Tensor

    @classmethod
    def of(
        cls, original: ReadTensor, edited: ReadTensor, goal: Goal, common: Tensor
    ) -> "KeyValueDistance":
        """Sum up all 32 matrices; ``common`` (d) is the edited encoder's mean of other prompts.

        Products are in float32, sums in float64.
        """
        keys = {attention.to_k for attention in cross_attentions()}
        target, anchor = goal.target - goal.common, goal.anchor - goal.common

        def quadratic(name: str) -> tuple[Tensor, Tensor, Tensor] | None:
            before, after = original(name).float(), edited(name).float()
            unit = ((anchor - target) @ before.T).square().sum(1).double().mean()
            if not unit:  # the matrix does not tell the two apart
                return None
            wanted = target @ before.T
            if name not in keys:
                wanted = wanted + before @ goal.common - after @ common
            parts = after.T @ after, wanted @ after, wanted.square().sum(1)
            metric, slopes, constants = (part.double() / unit for part in parts)
            return metric, slopes, constants

        found = [part for part in parallel_map(quadratic, key_value_matrices()) if part]
        metric, slopes, constants = (
            torch.stack([part[i] for part in found]).mean(0) for i in range(3)
        )
        return cls(common.double(), metric, slopes, constants)

    def squares(self, features: Tensor) -> Tensor:
        """Return distance² at each position (… × N) of features (… × N × d)."""
        f = features.to(self.metric) - self.common
        return ((f @ self.metric - 2 * self.slopes) * f).sum(-1) + self.constants

    def at(self, positions: slice) -> "KeyValueDistance":
        """Return the form of some of the N positions."""
        return KeyValueDistance(
            self.common, self.metric, self.slopes[positions], self.constants[positions]
        )

    def distance(self, features: Tensor) -> float:
        """Return the distance of features (N × d)."""
        return float(self.squares(features).mean().clamp(min=0).sqrt())

    @property
    def reach(self) -> float:
        """The least distance that any input features can have: c − bᵀH⁺b at each position."""
        values, vectors = torch.linalg.eigh(self.metric)
        there = values > RANK * values[-1]
        seen = (self.slopes @ vectors[:, there]).square() / values[there]
        return float((self.constants - seen.sum(1)).mean().clamp(min=0).sqrt())
