"""Records of measures: leak, drift and reach of held-out prompts."""

from operator import not_
from typing import Annotated

from pydantic import Field

from erasepro_convert.manifest.erasure import EditRecord
from erasepro_convert.manifest.fields import Count, Encoder, NonNegative, Record


def exceeds(value: float, limit: float | None) -> bool:
    """Whether a measure is above its limit; there may be none."""
    return limit is not None and value > limit


class Feed(Record):
    """One way of feeding the U-Net."""

    text_encoder: Encoder
    clip_skip: Count


class PromptMeasure(Record):
    """A measure over held-out prompts with one feed."""

    feed: Feed
    concept: str | None
    """The target; null where prompts of no concept are measured."""
    prompts: Count
    before: NonNegative
    """The mean in the original: 1 for leak, 0 for drift; less than 1 for a target that was erased
    from the original before."""
    mean: NonNegative
    worst: NonNegative
    worst_prompt: str
    by_prompt: dict[str, NonNegative]
    distance_before: NonNegative | None
    """‖KV(target) − KV_original(anchor)‖ in the original, mean over prompts, as a share of the
    other prompts' spread: what leak counts as 1.  Null for drift."""
    distance_after: NonNegative | None
    """‖KV_edited(target) − KV_original(anchor)‖ with this feed, mean over prompts, as a share of
    the other prompts' spread.  Null for drift."""


class Reach(Record):
    """How near any input can come to what the original had for a concept's target."""

    concept: str
    """The target."""
    clip_skip: Count
    """The one with which the original read the target."""
    reach: NonNegative
    """The least ‖KV_edited(f) − KV_original(target)‖ over any features f, as a share of
    ‖KV_original(anchor) − KV_original(target)‖."""


class ProbeRecord(Record):
    """What held-out prompts say of the result, on text features alone.

    leak is ‖KV_edited(target) − KV_original(anchor)‖ / ‖KV_original(target) − KV_original(anchor)‖:
    1 before erasure, 0 where the target has become the anchor.  Leak of a target that was erased
    from the original before is counted in how far other words in its place are from the anchor,
    since its own distance is gone; ``alignment.held`` names such targets.  drift is
    ‖KV_edited − KV_original‖ of other prompts: 0 before.  It is a share of their spread, the root
    mean square of ‖KV_original − mean of KV_original‖.  Both are means over the
    cross-attention's matrices, over positions 1 … EOS.  reach is 0 where some input, a text or
    not, still gives the U-Net the target's own keys and values, and 1 where none comes nearer than
    the anchor.
    """

    leak: tuple[PromptMeasure, ...]
    drift: tuple[PromptMeasure, ...]
    reach: Annotated[tuple[Reach, ...], Field(exclude_if=not_)] = ()
    """By concept; targets that were erased from the original before have none.  Manifests that are
    older than this measure lack it."""


class EmaRecord(Record):
    """The EMA copy of the U-Net, edited like the U-Net itself and measured in its place."""

    edits: tuple[EditRecord, ...]
    """Named by the tensors of the copy."""
    probe: ProbeRecord
