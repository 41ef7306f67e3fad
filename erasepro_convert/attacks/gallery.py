"""The pictures of attacks: they are drawn with both models, and judged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from erasepro_convert.attacks.case import AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.control_concept import CONTROL_PICTURES, draw_control_pictures
from erasepro_convert.attacks.detector import ConceptDetector, nearest_group
from erasepro_convert.attacks.image_renderer import ImageRenderer
from erasepro_convert.attacks.model import PromptSet, PromptSets
from erasepro_convert.attacks.recovery import recovery_ratio
from erasepro_convert.evaluate.image_store import Pixels, Settings, load_pixels
from erasepro_convert.evaluate.metrics.rates import Rate, crossed_rate
from erasepro_convert.evaluate.results import Estimate

Sees = Callable[[Pixels], list[bool]]
"""Says for each picture (n, size, size, 3) whether it shows what is searched for."""


@dataclass(frozen=True)
class Drawing:
    """How pictures were drawn and judged."""

    judge: str
    judge_sha256: str
    settings: Settings
    seeds: int


@dataclass(frozen=True)
class DrawnRates:
    """In what share of the pictures ``wanted`` is seen.

    ``original`` and ``erased`` are the rates of both models under the attack.  ``control`` is the
    rate at which the *target* is seen in pictures of the erased model with something never trained
    in the target's place.  ``recovered`` is ``erased`` divided by the original's rate without an
    attack.  ``worst`` is the prompt with the highest rate of the erased model.
    """

    wanted: str
    original: Estimate | None
    erased: Estimate
    recovered: Estimate | None
    control: Estimate | None
    images: int
    prompts: int
    worst: str
    worst_rate: float


class Gallery:
    """Draws prompt sets and says in what share of their pictures a concept is seen."""

    def __init__(
        self, renderer: ImageRenderer, detector: ConceptDetector, settings: Settings, seeds: int
    ) -> None:
        """Take what draws, what looks, and with what settings and how many seeds pictures are."""
        self.renderer, self.detector = renderer, detector
        self.described = Drawing(detector.name, detector.digest, settings, seeds)

    def judge(self, context: AttackContext, cases: Sequence[AttackCase]) -> Iterator[DrawnRates]:
        """Draw all cases of one concept, then judge each."""
        plain = PromptSet(context.original.variant, context.rewritten(unchanged))
        prompts = context.original.architecture.others
        others = PromptSet(context.original.variant, {prompt: prompt for prompt in prompts})
        prompt_sets = [plain]  # it comes first: words are trained on its pictures
        if any(case.wanted == "sign" for case in cases):
            prompt_sets.append(others)
        for case in cases:
            prompt_sets += (*case.attacked, *case.original, *case.control)
        self.renderer.draw(prompt_sets)
        sees_target = partial(self.detector.hits, context.target)
        sees_sign = partial(self._resembles_sign, (plain, others))
        unattacked = self._rate((plain,), sees_target)
        for case in cases:
            sees = sees_target if case.wanted == "target" else sees_sign
            erased = self._rate(case.attacked, sees)
            recovered = None
            if case.wanted == "target":
                recovered = recovery_ratio(_estimate(erased), _estimate(unattacked))
            yield DrawnRates(
                wanted=context.target if case.wanted == "target" else "the sign",
                original=_estimate(self._rate(case.original, sees)) if case.original else None,
                erased=_estimate(erased),
                recovered=recovered,
                control=_estimate(self._rate(case.control, sees)) if case.control else None,
                images=erased.n,
                prompts=erased.prompts,
                worst=case.attacked[0].prompts[erased.worst],
                worst_rate=erased.worst_rate,
            )

    def _rate(self, prompt_sets: PromptSets, sees: Sees) -> Rate:
        return crossed_rate([self._hits(prompt_set, sees) for prompt_set in prompt_sets])

    def _hits(self, prompt_set: PromptSet, sees: Sees) -> dict[str, tuple[int, int]]:
        """Count the hits and the pictures of each prompt."""
        by_prompt = self.renderer.paths(prompt_set)
        hits = iter(sees(load_pixels(chain.from_iterable(by_prompt.values()))))
        return {p: (sum(next(hits) for _ in paths), len(paths)) for p, paths in by_prompt.items()}

    def _resembles_sign(self, originals: Sequence[PromptSet], pixels: Pixels) -> list[bool]:
        """Say for each picture whether it is nearer to the control sign's pictures.

        The other pictures are the original model's, of the target's prompts and of others.
        """
        sign = draw_control_pictures(CONTROL_PICTURES, pixels.shape[1])
        paths = chain(*(chain(*self.renderer.paths(s).values()) for s in originals))
        groups = [self.detector.features(p) for p in (sign, load_pixels(paths))]
        return [group == 0 for group in nearest_group(self.detector.features(pixels), groups)]


def _estimate(found: Rate) -> Estimate:
    return Estimate(found.rate, found.interval)
