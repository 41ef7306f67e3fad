"""Distances between sets of pictures as figures: KID, KIDp and FID."""

from collections.abc import Callable

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.metrics.jackknife import Statistic, distance_interval
from erasepro_convert.evaluate.metrics.kid_fid import Array, fid, kid, kid_paired
from erasepro_convert.evaluate.results import Better, Estimate, Metric, Sets

STATISTICS: dict[Statistic, tuple[str, Callable[[Array, Array], float]]] = {
    "kid": ("KID", kid),
    "kid_paired": ("KIDp", kid_paired),
    "fid": ("FID", fid),
}


class DistanceJudge:
    """How far sets of pictures are from each other, on features of one network.

    Values on features of different networks have nothing to do with each other.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self.name = f"KID and FID on {features.name}"
        self.digest = features.digest

    def figures(self, sets: Sets) -> list[Metric]:
        """A: from the original model's pictures of the anchor; T and O: from its own of the same.

        The original model's T and O are distances of a set from itself: what KID's bias makes of no
        change at all, and exactly 0 for KIDp.  They have no difference, for a distance from one
        set less one from another says nothing.
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
            original, erased = original.once(), erased.once()
            for statistic in STATISTICS:
                found.append(self._from_itself(None, "O", "lower", original, erased, statistic))
        return [figure for figure in found if figure]

    def _from_anchor(
        self, concept: str, original: Pictures, erased: Pictures, anchor: Pictures
    ) -> Metric | None:
        before, after = (self._value(side, anchor, "kid") for side in (original, erased))
        if not before or not after:
            return None
        # without interval: both are from the same set, which ours do not know
        difference = Estimate(after.value - before.value)
        return self._figure(concept, "KID A", "lower", before, after, difference, erased)

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
        features = self._features.of(original.paths)
        before = Estimate(distance(features, features))
        return self._figure(concept, f"{name} {column}", better, before, after, None, erased)

    def _figure(
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
            prompts=len(set(pictures.owners)),
        )

    def _value(self, one: Pictures, other: Pictures, statistic: Statistic) -> Estimate | None:
        """The distance of two sets; None where one of them is a single picture."""
        x, y = self._features.of(one.paths), self._features.of(other.paths)
        if min(len(x), len(y)) < 2:
            return None
        of_other = None if _same(one, other) else other.owners
        try:
            found = distance_interval(x, y, one.owners, statistic, of_other)
        except ValueError:  # a prompt too few for an interval
            return Estimate(STATISTICS[statistic][1](x, y))
        return Estimate(found.value, found.interval)


def _same(one: Pictures, other: Pictures) -> bool:
    """Whether both have the same prompts row by row, or the anchor's words in the target's."""
    ids = [asked.prompt_id for asked in other.asked]
    mine = [asked.prompt_id for asked in one.asked]
    return ids in (mine, [f"{name}-anchor" for name in mine])
