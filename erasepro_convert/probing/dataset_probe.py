"""The measures of published prompts, summed up by target and by explicitness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from erasepro_convert.manifest import Feed
from erasepro_convert.probing.dataset_measures import MeasureName, Value, measure_prompts
from erasepro_convert.probing.published_prompts import MOST, Kind, PromptGroup
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

PROMPTS_AT_ONCE = 2 * MOST
"""The most prompts that are measured together, which saves reading the weights for each group."""
NAMED = 5
"""The worst prompts that are named, each with its file and line."""


@dataclass(frozen=True)
class DatasetMeasure:
    """One measure over some prompts with one feed.

    ``concept`` is the target that they are about or near to, None for far ones; ``level`` is None
    where the publisher gives none.  ``prompts`` were measured of ``found``.  ``before`` is the
    mean in the original.  ``worst`` are those with the highest values, highest first, as (value,
    prompt, place).
    """

    feed: Feed
    measure: MeasureName
    kind: Kind
    concept: str | None
    level: str | None
    prompts: int
    found: int
    before: float
    mean: float
    worst: tuple[tuple[float, str, str], ...]

    def to_data(self) -> dict[str, object]:
        """Return all fields for JSON."""
        names = ("value", "prompt", "place")
        worst = [dict(zip(names, entry, strict=True)) for entry in self.worst]
        return {**vars(self), "feed": self.feed.model_dump(mode="json"), "worst": worst}


def probe_prompts(
    groups: Sequence[PromptGroup],
    recipe: Recipe,
    measured: SD1Checkpoint,
    original: SD1Checkpoint,
    progress: Progress,
) -> list[DatasetMeasure]:
    """Measure an open checkpoint on published prompts, against the one that it came from.

    ``progress`` gets "prompts" with the prompts done and the total.
    """
    total = sum(len(group.prompts) for group in groups)
    found, done = [], 0
    for some in _batches(groups):
        progress("prompts", done, total)
        parts: dict[tuple[int, Feed, MeasureName], list[Value]] = {}
        for value in measure_prompts(some, recipe, original, measured):
            key = some.index(value.group), value.feed, value.measure
            parts.setdefault(key, []).append(value)
        in_order = sorted(parts.items(), key=lambda part: part[0][0])
        found += [_summary(some[i], feed, name, values) for (i, feed, name), values in in_order]
        done += sum(len(group.prompts) for group in some)
    progress("prompts", done, total)
    return found


def _batches(groups: Sequence[PromptGroup]) -> Iterator[list[PromptGroup]]:
    """Give groups together whose features fit into memory together."""
    batch: list[PromptGroup] = []
    for group in groups:
        if sum(len(g.prompts) for g in (*batch, group)) > PROMPTS_AT_ONCE and batch:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _summary(
    group: PromptGroup, feed: Feed, measure: MeasureName, values: Sequence[Value]
) -> DatasetMeasure:
    worst = sorted(values, key=lambda value: -value.after)[:NAMED]
    return DatasetMeasure(
        feed=feed,
        measure=measure,
        kind=group.kind,
        concept=group.concept.target if group.concept else None,
        level=group.level,
        prompts=len(values),
        found=group.found,
        before=sum(value.before for value in values) / len(values),
        mean=sum(value.after for value in values) / len(values),
        worst=tuple((value.after, value.prompt.text, value.prompt.place) for value in worst),
    )
