"""What the measures of a manifest come to: the worst of each, beside its limit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from erasepro_convert.manifest import Manifest, PromptMeasure, Reach


@dataclass(frozen=True)
class Check:
    """The largest mean of a measure over all ways to feed the U-Net.

    ``concept`` is None for drift.  ``held`` is None where the recipe sets no limit.
    """

    concept: str | None
    largest: PromptMeasure
    limit: float | None
    held: bool | None


def checks(manifest: Manifest) -> Iterator[Check]:
    """Give the leak of each concept, then the drift of other prompts."""
    probes = manifest.probes
    limits = manifest.recipe.limits
    leaks: dict[str | None, list[PromptMeasure]] = {}
    for probe in probes:
        for measure in probe.leak:
            leaks.setdefault(measure.concept, []).append(measure)
    for concept, measures in leaks.items():
        yield _check(concept, measures, limits.leak)
    yield _check(None, (m for probe in probes for m in probe.drift), limits.drift)


def least_reaches(manifest: Manifest) -> list[Reach]:
    """Return the least reach of each concept with each clip skip."""
    least: dict[tuple[str, int], Reach] = {}
    for reach in (reach for probe in manifest.probes for reach in probe.reach):
        key = reach.concept, reach.clip_skip
        least[key] = min(least.get(key, reach), reach, key=lambda found: found.reach)
    return [*least.values()]


def _check(concept: str | None, measures: Iterable[PromptMeasure], limit: float | None) -> Check:
    largest = max(measures, key=lambda measure: measure.mean)
    return Check(concept, largest, limit, None if limit is None else largest.mean <= limit)
