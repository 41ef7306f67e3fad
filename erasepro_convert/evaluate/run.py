"""An evaluation: pictures of both models, looked at by every judge that is there."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from erasepro_convert import __version__
from erasepro_convert.evaluate.figures import Figure, Judge
from erasepro_convert.evaluate.pictures import (
    Album,
    Model,
    Pictures,
    Settings,
    digest_of,
    draw,
)
from erasepro_convert.evaluate.plan import Asked, Role
from erasepro_convert.recipe import Recipe

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Gallery:
    """The pictures of an evaluation; see ``figures.Sets``."""

    asked: Sequence[Asked]
    pairs: tuple[tuple[str, str], ...]
    paths: dict[Model, dict[tuple[str, int], Path]]
    seeds: int

    def __call__(self, model: Model, concept: str | None, role: Role) -> Pictures | None:
        """Those of a concept's prompts (None: of the others'); None where there are none."""
        prompts = tuple(
            one for one in self.asked if one.role == role and concept in (None, one.concept)
        )
        if not prompts:
            return None
        made = self.paths[model]
        paths = tuple(made[one.prompt, seed] for one in prompts for seed in range(self.seeds))
        return Pictures(prompts, self.seeds, paths)


@dataclass(frozen=True)
class Evaluation:
    """What came of it; ``missing`` says of each judge that was not there what to give."""

    tool: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    settings: Settings
    seeds: int
    judges: dict[str, str]
    """Digests of weights by name."""
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]
    gallery: Gallery = field(repr=False)

    def to_data(self) -> dict[str, object]:
        """For JSON: everything but the pictures."""
        data = {k: v for k, v in vars(self).items() if k not in ("gallery", "figures", "settings")}
        prompts = [asdict(one) for one in self.gallery.asked]
        figures = [asdict(figure) for figure in self.figures]
        return {**data, "settings": asdict(self.settings), "prompts": prompts, "figures": figures}


def evaluate(
    recipe: Recipe,
    base: Path,
    erased: Path,
    asked: Sequence[Asked],
    judges: Sequence[Judge],
    album: Album,
    settings: Settings,
    seeds: int,
    progress: Progress,
) -> Evaluation:
    """Draw with both models what is not drawn yet, and have it judged.

    ``progress`` gets what is at work and denoising steps of it.  Raises CheckpointError for a file
    that makes no pictures.
    """
    prompts = [one.prompt for one in asked]
    paths: dict[Model, dict[tuple[str, int], Path]] = {}
    digests: dict[Model, str] = {}
    models: tuple[tuple[Model, Path], ...] = (("original", base), ("erased", erased))
    for model, path in models:
        digests[model] = digest_of(path)

        def report(done: int, total: int) -> None:
            progress(path.name, done, total)  # noqa: B023  # called in this turn

        paths[model] = dict(draw(path, digests[model], prompts, seeds, album, settings, report))
    pairs = tuple((concept.target, concept.anchor) for concept in recipe.concepts)
    gallery = Gallery(asked, pairs, paths, seeds)
    figures = tuple(figure for judge in judges for figure in judge.figures(gallery))
    return Evaluation(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=digests["original"],
        erased_sha256=digests["erased"],
        settings=settings,
        seeds=seeds,
        judges={judge.name: judge.digest for judge in judges},
        figures=figures,
        warnings=(),
        gallery=gallery,
    )
