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
from functools import cached_property
from math import sqrt

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.errors import LimitError
from erasepro_convert.runtime.threads import parallel_results
from erasepro_convert.sd1 import cross_attentions, key_value_matrices

RIDGE = 1e-12
"""What keeps the solve for ``reach`` stable, as a share of the form's mean eigenvalue.

An erasure makes its own directions small, to 1e-6 of the others and less, and whether they still
reach the target is the question: float32 would round them away.
"""
ROUNDING = 1e-10
"""The share of the constants below which what cannot be reached is rounding."""


@dataclass(frozen=True)
class Goal:
    """The original's features of a target and of its anchor at the same N positions (N × d).

    ``common`` (d) is the mean of its features of other prompts.
    """

    target: Tensor
    anchor: Tensor
    common: Tensor


@dataclass(frozen=True)
class MatrixDistance:
    """The square of one matrix in distance², not divided by u²: ‖f − m‖²_G − 2⟨b, f − m⟩ + c.

    ``unit`` is u², ``gram`` is G (d × d), ``slopes`` b (N × d), ``constants`` c (N), in float64.
    """

    unit: float
    gram: Tensor
    slopes: Tensor
    constants: Tensor


@dataclass(frozen=True)
class KeyValueMatrix:
    """One key or value matrix (m × d) of the original and of another checkpoint, in float64."""

    before: Tensor
    after: Tensor
    is_key: bool

    @cached_property
    def gram(self) -> Tensor:
        """AᵀA (d × d) of the other checkpoint's matrix A, which all goals share."""
        return self.after.T @ self.after

    def distance(self, goal: Goal, common: Tensor) -> MatrixDistance:
        """Return the square of this matrix; ``common`` (d) is as in ``KeyValueDistance.of``."""
        own_common, common = goal.common.double(), common.double()
        wanted = (goal.target.double() - own_common) @ self.before.T
        unit = ((goal.anchor - goal.target).double() @ self.before.T).square().sum(1).mean()
        if not self.is_key:
            wanted = wanted + self.before @ own_common - self.after @ common
        return MatrixDistance(float(unit), self.gram, wanted @ self.after, wanted.square().sum(1))


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

        Raises LimitError where no matrix tells the target from its anchor.
        """
        keys = {attention.to_k for attention in cross_attentions()}

        def distance(name: str) -> MatrixDistance:
            before, after = original(name).double(), edited(name).double()
            return KeyValueMatrix(before, after, name in keys).distance(goal, common)

        mean = MeanDistance(common)
        for matrix in parallel_results(distance, key_value_matrices()):
            mean.add(matrix)
        if found := mean.result():
            return found
        raise LimitError("to the original's U-Net this target and its anchor are the same")

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
        """The least distance that any input features can have: c − bᵀH⁻¹b at each position."""
        identity = torch.eye(len(self.metric), dtype=self.metric.dtype)
        ridge = RIDGE * float(self.metric.diagonal().mean()) or 1.0  # all matrices can be zero
        stable = self.metric + ridge * identity
        reached = torch.linalg.solve_triangular(
            torch.linalg.cholesky(stable), self.slopes.T, upper=False
        )
        left = float((self.constants - reached.square().sum(0)).mean())
        return sqrt(left) if left > ROUNDING * float(self.constants.mean()) else 0.0


class MeanDistance:
    """The mean over matrices, summed up one by one so that few are held at once."""

    def __init__(self, common: Tensor) -> None:
        """Take ``common`` (d) as in ``KeyValueDistance.of``."""
        self._common = common.double()
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None
        self._count = 0

    def add(self, matrix: MatrixDistance) -> None:
        """Count a matrix, unless it does not tell target and anchor apart: its unit is 0."""
        if not matrix.unit:
            return
        parts = matrix.gram, matrix.slopes, matrix.constants
        if self._sums is None:
            metric, slopes, constants = map(torch.zeros_like, parts)
            self._sums = metric, slopes, constants
        for total, part in zip(self._sums, parts, strict=True):
            total.add_(part, alpha=1 / matrix.unit)
        self._count += 1

    def result(self) -> KeyValueDistance | None:
        """Return the mean; None where no matrix counts."""
        if self._sums is None:
            return None
        metric, slopes, constants = (total / self._count for total in self._sums)
        return KeyValueDistance(self._common, metric, slopes, constants)
