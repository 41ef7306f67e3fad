"""Records of an erasure: which features were sent where, and each edited matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import hypot
from typing import Literal

from erasepro_convert.manifest.fields import Count, Encoder, NonNegative, Record
from erasepro_convert.sd1.keys import UNET


class Synonym(Record):
    """A word that means the same to the checkpoint as a target."""

    word: str
    distance: NonNegative
    """Distance of its keys and values from the target's, as a share of the anchor's."""


class PromptPair(Record):
    """One target prompt and the anchor prompt that it is made to mean."""

    target: str
    anchor: str
    target_tokens: Count
    """Tokens that are not padding, BOS and EOS included."""
    anchor_tokens: Count
    pairing: Literal["word", "position"]
    first_position: Count = 0
    """The position of the target prompt that ``anchor_positions`` begins with."""
    anchor_positions: tuple[Count, ...]
    """For that position of the target prompt and those that follow: the position in the anchor
    prompt."""


class AnchorPlace(Record):
    """One anchor feature: a token of a prompt."""

    prompt: str
    position: Count
    token: str


class Conflict(Record):
    """One target feature that the recipe sends to several anchor features at once."""

    target_prompt: str
    position: Count
    token: str
    anchors: tuple[AnchorPlace, ...]


class ColumnSet(Record):
    """The columns of X and Y in some layers."""

    columns: Count
    """Distinct pairs of a target feature and an anchor feature."""
    merged: Count
    """Pairs left out because the same pair is there already (a shared beginning of prompts)."""
    conflicts: tuple[Conflict, ...]


class Alignment(Record):
    """Which target features are sent to which anchor features.

    Layer 1 of the text encoder has columns of its own: it reads features before any attention,
    which a token and its position determine, so more columns are equal there.
    """

    prompts: tuple[PromptPair, ...]
    held: tuple[str, ...]
    """Targets that had been erased from the input before.  Nothing was solved for them, and their
    prompts are among the retained ones."""
    retained: tuple[str, ...]
    """Prompts whose features weigh the update."""
    left_out: tuple[str, ...]
    """Retained prompts of the recipe that contain a target's words."""
    first_layer: ColumnSet
    deeper_layers: ColumnSet


class Residual(Record):
    """‖WX − W_oY‖, absolute and relative to ‖W_oY‖.

    For keys of the cross-attention that are solved up to a constant, it is what the best constant
    leaves of it.
    """

    absolute: NonNegative
    relative: NonNegative


class FeatureDistance(Record):
    """How far target features X are from anchor features Y."""

    distance: NonNegative
    """‖X − Y‖ / ‖Y‖."""
    angle: NonNegative
    """Mean over columns, in degrees."""


class Change(Record):
    """One tensor that the recipe edits."""

    name: str
    shape: tuple[Count, ...]
    dtype: str
    """As stored, in safetensors' code."""
    changed: bool
    """Whether it is stored as another one than without the recipe.  It is not where the update is
    lost in rounding."""
    norm: NonNegative
    """‖W_o‖."""
    update_norm: NonNegative
    """‖W* − W_o‖."""
    relative_update: NonNegative
    """‖W* − W_o‖ / ‖W_o‖."""


def largest_update(changes: Sequence[Change]) -> float:
    """Return the largest update of a tensor as a share of its norm, 0 where nothing changed."""
    return max((change.relative_update for change in changes), default=0.0)


@dataclass(frozen=True)
class TrainedPart:
    """What training did to a numbered block of the U-Net, or to what is in none."""

    name: str
    tensors: int
    update_norm: float
    relative_update: float

    @classmethod
    def from_changes(cls, name: str, changes: Sequence[Change]) -> "TrainedPart":
        """Return the part, with the norms of all of its tensors together."""
        update = hypot(*(change.update_norm for change in changes))
        norm = hypot(*(change.norm for change in changes))
        return cls(name, len(changes), update, update / (norm or 1.0))


def _part_of(name: str) -> str:
    """Return the part of the U-Net that a tensor belongs to, such as ``input_blocks.4``."""
    first, second = name.removeprefix(UNET).split(".")[:2]
    return f"{first}.{second}" if first.endswith("_blocks") else first


@dataclass(frozen=True)
class EditedLayer:
    """What the edits of one layer come to: norms of all its weights, and its worst residuals."""

    name: str
    update_norm: float
    relative_update: float
    residual_before: float
    residual_after: float


def edited_layers(edits: Sequence["EditRecord"]) -> tuple[EditedLayer, ...]:
    """Return the layers that were edited, in the order of the forward pass."""
    groups = [(name, list(group)) for name, group in groupby(edits, lambda edit: edit.layer)]
    return tuple(
        EditedLayer(
            name,
            update := hypot(*(edit.update_norm for edit in group)),
            update / (hypot(*(edit.norm for edit in group)) or 1.0),
            max(edit.residual_before.relative for edit in group),
            max(edit.residual_after.relative for edit in group),
        )
        for name, group in groups
    )


class Trained(Record):
    """What training did, beyond the matrices that stand in ``edits``."""

    device: str
    losses: tuple[NonNegative, ...]
    """The loss of each step."""
    changes: tuple[Change, ...]

    def parts(self) -> tuple[TrainedPart, ...]:
        """Return the changes by part of the U-Net, in the order of the forward pass."""
        groups: dict[str, list[Change]] = {}
        for change in self.changes:
            groups.setdefault(_part_of(change.name), []).append(change)
        return tuple(TrainedPart.from_changes(name, changes) for name, changes in groups.items())


class CalibrationRecord(Record):
    """How much regularisation one matrix got, and what that came to on calibration prompts."""

    regularisation: NonNegative
    """ε as a share of the largest squared singular value of X in the norm of what is retained: near
    0 is near the exact solve."""
    leak: NonNegative
    """Distance of the matrix's outputs for targets from those for anchors, as a share of what it
    was; root mean square over prompts and text encoders."""
    drift: NonNegative
    """How far the matrix's outputs for other prompts moved, as a share of their spread."""


class EditRecord(Change):
    """One edited matrix that reads text features, and what it does to the recipe's columns."""

    layer: str
    residual_before: Residual
    residual_after: Residual
    """What is left with the weight as it is stored."""
    columns: Count
    """Columns of X."""
    rank: Count
    """Singular values of X above the cut-off."""
    condition: NonNegative
    """Largest over smallest singular value of X above the cut-off."""
    merged: Count
    """Columns of X left out as duplicates."""
    conflicts: Count
    """Columns of X that are sent to several anchor features."""
    calibration: CalibrationRecord | None
    """Null where the recipe gives a tolerance, or the method is not calibrated."""
    feature_distance: FeatureDistance
    """How far X is from Y where the layer reads them, with all earlier edits (Fig. 3a)."""
    feature_distance_without_edits: FeatureDistance
    """How far X is from Y there without any edit."""
    single_encoder_update: dict[Encoder, NonNegative] | None
    """‖W* − W_o‖ of an edit that holds for one text encoder alone, for a matrix of the
    cross-attention.  "stock" is the burden without progression, "edited" what is left of it
    (Fig. 2d).  Null where nobody asked: no edit rests on it."""
