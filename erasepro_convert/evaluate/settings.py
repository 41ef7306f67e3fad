"""The sampling settings of an evaluation: from the recipe, else the model's defaults."""

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import Settings
from erasepro_convert.recipe import Evaluate
from erasepro_convert.sd1.architecture import DEMO, Architecture


def resolve_settings(config: Evaluate, architecture: Architecture) -> Settings:
    """Fill each setting that the recipe leaves null with the model's default."""
    guidance = architecture.guidance if config.guidance is None else config.guidance
    return Settings(
        steps=config.steps or architecture.evaluation_steps,
        guidance=float(guidance),
        size=config.size or architecture.size,
        sampler=config.sampler or architecture.evaluation_sampler,
    )


def require_judged_size(config: Evaluate, architecture: Architecture) -> None:
    """Raise UsageError for a picture size that the model's judge cannot look at."""
    if architecture.widths == DEMO and config.size not in (None, architecture.size):
        raise UsageError(
            f"evaluate.size: the demo model is judged on pictures of {architecture.size} pixels, "
            f"not {config.size}: leave it out"
        )
