"""An evaluation: pictures of both models, looked at by every judge that is there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from erasepro_convert.evaluate.drawing import Wanted
from erasepro_convert.evaluate.image_store import MODELS, Model, Pictures, Settings
from erasepro_convert.evaluate.judges import Found
from erasepro_convert.evaluate.metrics.rates import few_for_fid, few_for_kid, few_prompts
from erasepro_convert.evaluate.plan import EvalPrompt, Role
from erasepro_convert.evaluate.results import Metric
from erasepro_convert.evaluate.session import Progress, Session
from erasepro_convert.runtime.version import __version__


@dataclass(frozen=True)
class Gallery:
    """The pictures of an evaluation; see ``figures.Sets``."""

    asked: Sequence[EvalPrompt]
    pairs: tuple[tuple[str, str], ...]
    drawn: Mapping[Model, Wanted]
    seeds: int
    guidance: float

    def __call__(self, model: Model, concept: str | None, role: Role) -> Pictures | None:
        """Those of a concept's prompts (None: of the others'); None where there are none."""
        found = [
            (one, self.drawn[model][shot])
            for one in self.asked
            if one.role == role and concept in (None, one.concept)
            for shot in one.shots(self.seeds, self.guidance)
        ]
        return Pictures(*zip(*found, strict=True)) if found else None


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    ``judges`` are the digests of their weights by name, ``missing`` what to give for those that
    were not there, ``warnings`` why figures are worth less than they look.
    """

    tool: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    settings: Settings
    seeds: int
    judges: Mapping[str, str]
    missing: tuple[str, ...]
    figures: tuple[Metric, ...]
    warnings: tuple[str, ...]
    gallery: Gallery = field(repr=False)

    def to_data(self) -> dict[str, object]:
        """For JSON: everything but the pictures."""
        data = {name: value for name, value in vars(self).items() if name != "gallery"}
        return data | {
            "settings": asdict(self.settings),
            "prompts": [asdict(one) for one in self.gallery.asked],
            "figures": [figure.to_data() for figure in self.figures],
        }


def evaluate(session: Session, found: Found, progress: Progress) -> Evaluation:
    """Draw with both models what is not drawn yet, and have it judged.

    ``progress`` gets what is at work and denoising steps of it.  Raises CheckpointError for a file
    that makes no pictures, UsageError for a file in the album that is no picture.
    """
    recipe, settings = session.recipe, session.settings
    drawn = {model: session.wanted(model) for model in MODELS}
    for model, wanted in drawn.items():
        session.draw(model, wanted, progress)
    pairs = tuple((concept.target, concept.anchor) for concept in recipe.concepts)
    gallery = Gallery(session.asked, pairs, drawn, session.seeds, settings.guidance)
    figures: list[Metric] = []
    for number, judge in enumerate(found.judges):
        progress(f"judging: {judge.name}", number, len(found.judges))
        figures += judge.figures(gallery)
    return Evaluation(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=session.digests["original"],
        erased_sha256=session.digests["erased"],
        settings=settings,
        seeds=session.seeds,
        judges={judge.name: judge.digest for judge in found.judges},
        missing=found.missing,
        figures=tuple(figures),
        warnings=_warnings(figures),
        gallery=gallery,
    )


def _warnings(figures: Sequence[Metric]) -> tuple[str, ...]:
    """What is wrong with the smallest samples; of KID and FID with those that they are of."""
    if not figures:
        return ("no judge has anything to say of these concepts",)
    lines = few_prompts(min(figure.prompts for figure in figures))
    for name, warn in (("KID", few_for_kid), ("FID", few_for_fid)):
        if of := [figure.images for figure in figures if name in figure.column]:
            lines += warn(min(of))
    return tuple(lines)
