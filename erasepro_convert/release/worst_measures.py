"""The rows of a card's table: the worst of each measure, of the model and of a kept EMA copy."""

from erasepro_convert.manifest import Manifest, PromptMeasure, Reach


def largest_means(manifest: Manifest) -> list[PromptMeasure]:
    """Return the largest leak of each concept, then the largest drift, over all feeds."""
    largest: dict[str | None, PromptMeasure] = {}
    for measure in (m for probe in manifest.probes for m in (*probe.leak, *probe.drift)):
        known = largest.get(measure.concept, measure)
        largest[measure.concept] = max(known, measure, key=lambda found: found.mean)
    return [*largest.values()]


def least_reaches(manifest: Manifest) -> list[Reach]:
    """Return the least reach of each concept with each clip skip."""
    least: dict[tuple[str, int], Reach] = {}
    for reach in (reach for probe in manifest.probes for reach in probe.reach):
        key = reach.concept, reach.clip_skip
        least[key] = min(least.get(key, reach), reach, key=lambda found: found.reach)
    return [*least.values()]
