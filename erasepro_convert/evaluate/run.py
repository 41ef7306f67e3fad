"""An evaluation: pictures of both models, looked at by every judge that is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from erasepro_convert import __version__
from erasepro_convert.architecture import DEMO, Architecture, architecture_of
from erasepro_convert.evaluate.figures import Figure
from erasepro_convert.evaluate.judges import Found
from erasepro_convert.evaluate.pictures import (
    MODELS,
    Album,
    Model,
    Pictures,
    Settings,
    digest_of,
    draw,
)
from erasepro_convert.evaluate.plan import Asked, Role, plan
from erasepro_convert.evaluate.settings import settings_of
from erasepro_convert.evaluate.statistics import small_sample_warnings
from erasepro_convert.recipe import Recipe
from erasepro_convert.source import open_source

Progress = Callable[[str, int, int], None]
Drawn = Mapping[tuple[str, int], Path]


@dataclass(frozen=True)
class Gallery:
    """The pictures of an evaluation; see ``figures.Sets``."""

    asked: Sequence[Asked]
    pairs: tuple[tuple[str, str], ...]
    drawn: Mapping[Model, Drawn]
    seeds: int

    def __call__(self, model: Model, concept: str | None, role: Role) -> Pictures | None:
        """Those of a concept's prompts (None: of the others'); None where there are none."""
        prompts = tuple(
            one for one in self.asked if one.role == role and concept in (None, one.concept)
        )
        if not prompts:
            return None
        drawn = self.drawn[model]
        paths = tuple(drawn[one.prompt, seed] for one in prompts for seed in range(self.seeds))
        return Pictures(prompts, self.seeds, paths)


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
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    gallery: Gallery = field(repr=False)

    def to_data(self) -> dict[str, object]:
        """For JSON: everything but the pictures."""
        data = {name: value for name, value in vars(self).items() if name != "gallery"}
        return data | {
            "settings": asdict(self.settings),
            "prompts": [asdict(one) for one in self.gallery.asked],
            "figures": [asdict(figure) for figure in self.figures],
        }


def is_demo(base: Path) -> bool:
    """Whether a checkpoint is the demo model, whose world has prompts and a judge of its own."""
    return _architecture(base).widths == DEMO


def evaluate(
    recipe: Recipe,
    base: Path,
    erased: Path,
    found: Found,
    album: Album,
    progress: Progress,
    *,
    given: Sequence[Asked] = (),
    seeds: int | None = None,
) -> Evaluation:
    """Draw with both models what is not drawn yet, and have it judged.

    ``given`` prompts and ``seeds`` go before the recipe's.  ``progress`` gets what is at work and
    denoising steps of it.  Raises CheckpointError for a file that makes no pictures, UsageError for
    a recipe's file of prompts that is none.
    """
    architecture = _architecture(base)
    asked = plan(recipe, given, is_demo=architecture.widths == DEMO)
    settings = settings_of(recipe.evaluate, architecture)
    count = seeds or recipe.evaluate.seeds
    drawn: dict[Model, Drawn] = {}
    digests: dict[Model, str] = {}
    for model, path in zip(MODELS, (base, erased), strict=True):

        def report(done: int, total: int) -> None:
            progress(f"{model}: {path.name}", done, total)  # noqa: B023  # called in this turn

        digests[model] = digest_of(path)
        # What becomes of anchors is no question; the original's are what targets should become.
        prompts = [one.prompt for one in asked if model == "original" or one.role != "anchor"]
        drawn[model] = draw(path, digests[model], prompts, count, album, settings, report)
    pairs = tuple((concept.target, concept.anchor) for concept in recipe.concepts)
    gallery = Gallery(asked, pairs, drawn, count)
    figures = []
    for number, judge in enumerate(found.judges):
        progress(f"judging: {judge.name}", number, len(found.judges))
        figures += judge.figures(gallery)
    return Evaluation(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=digests["original"],
        erased_sha256=digests["erased"],
        settings=settings,
        seeds=count,
        judges={judge.name: judge.digest for judge in found.judges},
        missing=found.missing,
        figures=tuple(figures),
        warnings=_warnings(figures),
        gallery=gallery,
    )


def _architecture(checkpoint: Path) -> Architecture:
    return architecture_of(open_source(checkpoint).layout.widths)


def _warnings(figures: Sequence[Figure]) -> tuple[str, ...]:
    """What is wrong with the smallest samples; of KID and FID with those that they are of."""
    if not figures:
        return ("no judge has anything to say of these concepts",)
    lines: dict[str, None] = {}
    for about in ("KID", "FID", ""):
        of = [figure for figure in figures if about in figure.column]
        if of:
            least = min(of, key=lambda figure: (figure.prompts, figure.images))
            found = small_sample_warnings(least.prompts, least.images)
            others = {"KID", "FID"} - {about}
            lines |= {line: None for line in found if not any(n in line for n in others)}
    return tuple(lines)
