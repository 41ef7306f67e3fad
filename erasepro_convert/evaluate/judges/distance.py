"""Distances between sets of pictures as metrics: KID, KIDp and FID."""

from collections.abc import Callable

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.metrics.jackknife import Statistic, distance_interval
from erasepro_convert.evaluate.metrics.kid_fid import Array, fid, kid, kid_paired
from erasepro_convert.evaluate.results import Better, Estimate, Metric, PictureSets

STATISTICS: dict[Statistic, tuple[str, Callable[[Array, Array], float]]] = {
    "kid": ("KID", kid),
    "kid_paired": ("KIDp", kid_paired),
    "fid": ("FID", fid),
}


class DistanceJudge:
    """Computes distances between sets of pictures on the features of one network.

    Distances on features of different networks cannot be compared.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self.name = f"KID and FID on {features.name}"
        self.digest = features.digest

    def metrics(self, sets: PictureSets) -> list[Metric]:
        """Compute A, T and O: distances from pictures of the original model.

        A is the distance from its pictures of the anchor, T and O the distance from its pictures
        of the same prompts.  The original model's own T and O are distances of a set from itself:
        KID shows its bias there, and KIDp is exactly 0.  T and O have no difference, since
        subtracting distances from different sets means nothing.
        """
        found: list[Metric | None] = []
        for target, _ in sets.pairs:
            original, erased = sets("original", target, "target"), sets("erased", target, "target")
            anchor = sets("original", target, "anchor")
            if original and erased and anchor:
                found.append(self._from_anchor(target, original, erased, anchor))
            if original and erased:
                found.append(self._from_itself(target, "T", "higher", original, erased, "kid"))
                found.append(
                    self._from_itself(target, "T", "higher", original, erased, "kid_paired")
                )
        original, erased = sets("original", None, "other"), sets("erased", None, "other")
        if original and erased:
            original, erased = original.without_repeats(), erased.without_repeats()
            for statistic in STATISTICS:
                found.append(self._from_itself(None, "O", "lower", original, erased, statistic))
        return [metric for metric in found if metric]

    def _from_anchor(
        self, concept: str, original: Pictures, erased: Pictures, anchor: Pictures
    ) -> Metric | None:
        before, after = (self._value(side, anchor, "kid") for side in (original, erased))
        if not before or not after:
            return None
        # It has no interval: both distances are from one set, and no method here accounts for it.
        difference = Estimate(after.value - before.value)
        return self._metric(concept, "KID A", "lower", before, after, difference, erased)

    def _from_itself(
        self,
        concept: str | None,
        column: str,
        better: Better,
        original: Pictures,
        erased: Pictures,
        statistic: Statistic,
    ) -> Metric | None:
        after = self._value(erased, original, statistic)
        if not after:
            return None
        name, distance = STATISTICS[statistic]
        features = self._features.compute(original.paths)
        before = Estimate(distance(features, features))
        return self._metric(concept, f"{name} {column}", better, before, after, None, erased)

    def _metric(
        self,
        concept: str | None,
        column: str,
        better: Better,
        original: Estimate,
        erased: Estimate,
        difference: Estimate | None,
        pictures: Pictures,
    ) -> Metric:
        return Metric(
            judge=self.name,
            concept=concept,
            column=column,
            better=better,
            original=original,
            erased=erased,
            difference=difference,
            images=len(pictures.paths),
            prompts=len(set(pictures.prompt_texts)),
        )

    def _value(self, one: Pictures, other: Pictures, statistic: Statistic) -> Estimate | None:
        """Return the distance of two sets; None where one of them is a single picture."""
        x, y = self._features.compute(one.paths), self._features.compute(other.paths)
        if min(len(x), len(y)) < 2:
            return None
        other_prompts = None if _share_prompts(one, other) else other.prompt_texts
        try:
            found = distance_interval(x, y, one.prompt_texts, statistic, other_prompts)
        except ValueError:  # there are too few prompts for an interval
            return Estimate(STATISTICS[statistic][1](x, y))
        return Estimate(found.value, found.interval)


def _share_prompts(one: Pictures, other: Pictures) -> bool:
    """Whether both have the same prompts row by row, apart from the anchor's words."""
    ids = [prompt.prompt_id for prompt in one.prompts]
    other_ids = [prompt.prompt_id for prompt in other.prompts]
    return other_ids in (ids, [f"{name}-anchor" for name in ids])
