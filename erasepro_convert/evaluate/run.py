"""An evaluation: both models draw the same prompts, and every available judge looks at them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from erasepro_convert import __version__
from erasepro_convert.evaluate.drawing import ImagePaths
from erasepro_convert.evaluate.image_store import MODELS, ModelName, Pictures, Settings
from erasepro_convert.evaluate.judges import AvailableJudges
from erasepro_convert.evaluate.metrics.rates import (
    fid_warnings,
    kid_warnings,
    prompt_count_warnings,
)
from erasepro_convert.evaluate.plan import EvalPrompt, Role
from erasepro_convert.evaluate.results import Metric
from erasepro_convert.evaluate.session import Session
from erasepro_convert.runtime.progress import Progress


@dataclass(frozen=True)
class DrawnPictures:
    """The pictures of an evaluation, by model, concept and role: see ``results.PictureSets``."""

    prompts: Sequence[EvalPrompt]
    pairs: tuple[tuple[str, str], ...]
    paths: Mapping[ModelName, ImagePaths]
    seeds: int
    guidance: float

    def __call__(self, model: ModelName, concept: str | None, role: Role) -> Pictures | None:
        """Return a model's pictures of one concept and role; None where there are none.

        Where ``concept`` is None, prompts of all concepts count.
        """
        found = [
            (prompt, self.paths[model][request])
            for prompt in self.prompts
            if prompt.role == role and concept in (None, prompt.concept)
            for request in prompt.requests(self.seeds, self.guidance)
        ]
        return Pictures(*zip(*found, strict=True)) if found else None


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    ``judges`` maps each judge's name to the SHA-256 of its weights; ``missing`` has a line for
    each judge that was not available, saying what to install or to give; ``warnings`` say why
    metrics are less reliable than they look.
    """

    tool: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    settings: Settings
    seeds: int
    judges: Mapping[str, str]
    missing: tuple[str, ...]
    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...]
    pictures: DrawnPictures = field(repr=False)

    def to_data(self) -> dict[str, object]:
        """Return everything but the pictures, for JSON; its key for the metrics is "figures"."""
        data = {
            name: value for name, value in vars(self).items() if name not in ("metrics", "pictures")
        }
        return data | {
            "settings": asdict(self.settings),
            "prompts": [asdict(prompt) for prompt in self.pictures.prompts],
            "figures": [metric.to_data() for metric in self.metrics],
        }


def evaluate(session: Session, available: AvailableJudges, progress: Progress) -> Evaluation:
    """Draw the pictures of both models that do not exist yet, and judge all of them.

    ``progress`` gets the model or judge at work and how much of it is done.  Raises
    CheckpointError for a file that makes no pictures, UsageError for a file in the image store
    that is no picture.
    """
    recipe, settings = session.recipe, session.settings
    paths = {model: session.image_paths(model) for model in MODELS}
    for model in MODELS:
        session.draw(model, paths[model], progress)
    pairs = tuple((concept.target, concept.anchor) for concept in recipe.concepts)
    pictures = DrawnPictures(session.prompts, pairs, paths, session.seeds, settings.guidance)
    metrics: list[Metric] = []
    for number, judge in enumerate(available.judges):
        progress(f"judging: {judge.name}", number, len(available.judges))
        metrics += judge.metrics(pictures)
    return Evaluation(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=session.models["original"].digest,
        erased_sha256=session.models["erased"].digest,
        settings=settings,
        seeds=session.seeds,
        judges={judge.name: judge.digest for judge in available.judges},
        missing=available.missing,
        metrics=tuple(metrics),
        warnings=_warnings(metrics),
        pictures=pictures,
    )


TARGET_SEEN = "T: target seen"
"""The column of a target's own pictures, for judges that look for it."""


def _warnings(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Warn of targets that the original does not draw, and of the smallest samples.

    The latter are of prompts for all metrics, of images for KID and FID.
    """
    if not metrics:
        return ("no judge has anything to say of these concepts",)
    lines = prompt_count_warnings(min(metric.prompts for metric in metrics))
    lines += [
        f"{metric.concept}: {metric.judge} sees it in no picture of the original either, so that "
        "its figures show nothing."
        for metric in metrics
        if metric.column == TARGET_SEEN and metric.original and not metric.original.value
    ]
    for name, warn in (("KID", kid_warnings), ("FID", fid_warnings)):
        if images := [metric.images for metric in metrics if name in metric.column]:
            lines += warn(min(images))
    return tuple(lines)
