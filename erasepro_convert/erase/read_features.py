"""What matrices at one place read: features of prompts by group, gathered into columns.

d is the width of features, n the number of columns.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import hypot
from typing import Literal

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features
from erasepro_convert.erase.calibration import CalibrationFeatures
from erasepro_convert.erase.closed_form import Columns, Retained, moment, unchanged
from erasepro_convert.erase.columns import AlignedPrompts, ColumnIndex
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.retained_language import RetainedLanguage
from erasepro_convert.errors import CheckpointError
from erasepro_convert.language.moments import Reader, with_constant
from erasepro_convert.manifest import Encoder, FeatureDistance

Group = Literal[
    "anchor",
    "target",
    "retained",
    "left_out",
    "calibration_anchor",
    "calibration_target",
    "calibration_other",
    "empty",
]
"""Groups of prompts that pass through the text encoder together."""

PART = 6144
"""Columns that are looked at together."""


@dataclass(frozen=True)
class Inputs:
    """What a layer reads: features by group of prompts, with all edits so far and in the original.

    ``reader`` names the layer to ``Language``.
    """

    reader: Reader
    current: Callable[[Group], Features]
    original: Callable[[Group], Features]

    @property
    def without_edits(self) -> "Inputs":
        """What the layer reads of the stock text encoder."""
        return Inputs(self.reader, self.original, self.original)


@dataclass(frozen=True)
class Problem:
    """What all layers have in common: prompts, closed form, what is retained, what calibrates.

    ``language`` is None where the form does not read it; ``strength`` is the recipe's.
    """

    prompts: AlignedPrompts
    form: Form
    retain_weight: float
    language: RetainedLanguage | None
    strength: float


Feeds = Mapping[Encoder, list[Inputs]]
"""What a matrix reads, by the text encoder that it comes from."""

Augment = Callable[[Tensor], Tensor]
"""What is done to features (d × n) before they are columns."""

FeatureDistances = Mapping[Encoder, FeatureDistance]
"""How far X is from Y, with all edits so far ("edited") and without any ("stock")."""


def feature_distances(columns: ColumnIndex, feeds: Feeds) -> FeatureDistances:
    """How far target features are from anchor features, by text encoder."""
    return {encoder: _feature_distance(columns, inputs) for encoder, inputs in feeds.items()}


def _feature_distance(columns: ColumnIndex, inputs: list[Inputs]) -> FeatureDistance:
    difference, size, angles, count = 0.0, 0.0, 0.0, 0
    for x, y in _parts(columns, inputs):
        difference += norm(x - y) ** 2
        size += norm(y) ** 2
        cosines = torch.nn.functional.cosine_similarity(x, y, dim=0).clamp(-1, 1)
        angles += float(cosines.acos().rad2deg().sum())
        count += x.shape[1]
    return FeatureDistance(distance=ratio(difference**0.5, size**0.5), angle=angles / count)


def _parts(
    columns: ColumnIndex, inputs: list[Inputs], augment: Augment = unchanged
) -> Iterator[tuple[Tensor, Tensor]]:
    """X and Y piece by piece; each element of ``inputs`` gives a full set of columns."""
    for source in inputs:
        for start in range(0, len(columns.target), PART):
            part = slice(start, start + PART)
            x = columns.target.columns(source.current("target"), part)
            y = columns.anchor.columns(source.original("anchor"), part)
            scales = columns.scales[part].to(x.dtype)
            yield augment(x) * scales, augment(y) * scales


@dataclass(frozen=True)
class Read:
    """What matrices at one place read: columns X and Y, what must stay, what calibrates.

    With ``has_constant`` X and Y have one row more, that of a constant feature.
    """

    label: str
    problem: Problem
    inputs: list[Inputs]
    xy: Columns
    has_constant: bool
    retained: Retained | None
    calibration: list[CalibrationFeatures]
    count: int
    merged: int
    conflicts: int

    @classmethod
    def of(
        cls,
        label: str,
        problem: Problem,
        columns: ColumnIndex,
        inputs: list[Inputs],
        *,
        has_constant: bool = False,
    ) -> "Read":
        """Gather the features.  Raises CheckpointError when they are not finite."""
        augment = with_constant if has_constant else unchanged
        count = len(inputs) * len(columns.target)
        xy = Columns.of(_parts(columns, inputs, augment), count)
        _require_finite(label, xy.x, xy.y, xy.rest)
        return cls(
            label=label,
            problem=problem,
            inputs=inputs,
            xy=xy,
            has_constant=has_constant,
            retained=_retained(label, problem, inputs),
            calibration=[
                _calibration_features(problem.prompts, source)
                for source in inputs
                if problem.form.calibrates
            ],
            count=count,
            merged=len(inputs) * columns.record.merged,
            conflicts=len(inputs) * len(columns.record.conflicts),
        )

    @property
    def with_anchors(self) -> Retained | None:
        """What must stay with the anchors among it, which weigh as much as all retained prompts."""
        if not self.retained:
            return None
        y = torch.cat([self.xy.y, self.xy.rest], dim=1).double()
        anchors = y @ y.T / (y[-1].square().sum() if self.has_constant else y.shape[1])
        return replace(self.retained, prompts=self.retained.prompts + anchors)

    @property
    def retained_features(self) -> Tensor:
        """The features of retained prompts (d × k)."""
        index = self.problem.prompts.retained.index
        return torch.cat([index.columns(source.current("retained")) for source in self.inputs], 1)

    @property
    def language_moment(self) -> Tensor:
        """The mean of l·lᵀ (d × d) over features l of common language; zero if none is retained."""
        d = len(self.xy.x) - self.has_constant
        if not self.retained:
            return self.xy.x.new_zeros(d, d)
        assert self.retained.language is not None
        return self.retained.language[:d, :d]

    @property
    def empty_prompt_features(self) -> Tensor:
        """The features of the empty prompt (d × 77), with one input after the other."""
        index = self.problem.prompts.empty.index
        return torch.cat([index.columns(source.current("empty")) for source in self.inputs], 1)


def _retained(label: str, problem: Problem, inputs: list[Inputs]) -> Retained | None:
    """What must stay, where the matrices read it; None where nothing is retained."""
    prompts = problem.prompts.retained
    if not problem.retain_weight or not len(prompts.index):
        return None
    features = [prompts.index.columns(source.current("retained")) for source in inputs]
    _require_finite(label, *features)
    language = None
    if problem.language:
        left_out = problem.language.left_out
        moments = [
            problem.language.moment(
                source.reader, left_out.index.columns(source.original("left_out"))
            )
            for source in inputs
        ]
        language = sum(moments[1:], moments[0]) / len(moments)
    return Retained(moment(map(with_constant, features)), problem.retain_weight, language)


def _calibration_features(prompts: AlignedPrompts, source: Inputs) -> CalibrationFeatures:
    columns, others = prompts.calibration.index(source.reader), prompts.calibration_others.index
    targets = source.current("calibration_target"), source.original("calibration_target")
    return CalibrationFeatures(
        target=columns.target.columns(targets[0]),
        target_original=columns.target.columns(targets[1]),
        anchor=columns.anchor.columns(source.original("calibration_anchor")),
        other=others.columns(source.current("calibration_other")),
        other_original=others.columns(source.original("calibration_other")),
    )


def _require_finite(label: str, *features: Tensor) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise CheckpointError(
            f"the text features at {label} are not finite: this text encoder is damaged"
        )


def norm(*parts: Tensor) -> float:
    """The Frobenius norm of a matrix that is given in parts."""
    return hypot(*(float(torch.linalg.matrix_norm(part)) for part in parts))


def ratio(part: float, whole: float) -> float:
    """``part / whole``; a zero matrix has nothing to deviate from, so there it is zero."""
    return part / whole if whole else 0.0
