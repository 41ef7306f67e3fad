"""What draws and judges the attacks of ``stress``."""

from collections.abc import Callable
from pathlib import Path

from erasepro_convert.attacks.detector import ConceptDetector
from erasepro_convert.attacks.gallery import Gallery
from erasepro_convert.attacks.image_renderer import ImageRenderer
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.zero_shot import ZeroShot
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import ImageStore, Settings
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.judges.demo import DemoJudge
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress


def open_gallery(
    original: LoadedModel,
    detector: ConceptDetector,
    folder: Path,
    seeds: int,
    steps: int | None,
    guidance: float | None,
    announce: Callable[[str], None],
    progress: Progress,
) -> Gallery:
    """Return what draws and judges, with the model's own settings where none are given."""
    model = original.architecture
    settings = Settings(
        model.steps if steps is None else steps,
        model.guidance if guidance is None else guidance,
        model.size,
        "dpm++",
    )
    renderer = ImageRenderer(model, settings, seeds, ImageStore(folder), announce, progress)
    return Gallery(renderer, detector, settings, seeds)


def find_detector(
    recipe: Recipe, base: Path, clip: Path | None, *, is_demo: bool
) -> ConceptDetector:
    """Return CLIP if it was given, else the demo model's judge.

    Raises UsageError for another model without CLIP.
    """
    if clip:
        return ZeroShot(ClipFeatures(clip), {c.target: c.anchor for c in recipe.concepts})
    if not is_demo:
        raise UsageError(
            f"{base.name}: there is no judge for its pictures; give --clip FOLDER, "
            "a local copy of openai/clip-vit-base-patch32"
        )
    return DemoJudge()
