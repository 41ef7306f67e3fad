"""How pictures of an evaluation are made: as its recipe says, else as suits the model."""

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import Settings
from erasepro_convert.recipe import Evaluate
from erasepro_convert.sd1.architecture import DEMO, Architecture


def settings_of(asked: Evaluate, architecture: Architecture) -> Settings:
    """What is null in the recipe is what suits the model."""
    guidance = architecture.guidance if asked.guidance is None else asked.guidance
    return Settings(
        steps=asked.steps or architecture.evaluation_steps,
        guidance=float(guidance),
        size=asked.size or architecture.size,
        sampler=asked.sampler or architecture.evaluation_sampler,
    )


def require_judged(asked: Evaluate, architecture: Architecture) -> None:
    """Refuse pictures that the model's judge does not see.  Raises UsageError."""
    if architecture.widths == DEMO and asked.size not in (None, architecture.size):
        raise UsageError(
            f"evaluate.size: the demo model is judged on pictures of {architecture.size} pixels, "
            f"not {asked.size}: leave it out"
        )
