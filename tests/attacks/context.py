"""The context of attacks on snoopy, as a stress test makes it."""

from pathlib import Path

from erasepro_convert import demo
from erasepro_convert.attacks.case import AttackContext, Effort
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.target_distance import TargetDistances
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS, PROBE_TEMPLATES
from erasepro_convert.recipe.sections import Concept
from erasepro_convert.runtime.progress import Progress, silent


def erased_demo(folder: Path, recipe: Path) -> tuple[Path, Path]:
    """The demo model in a folder, and what a recipe makes of it."""
    base, erased = folder / "base.safetensors", folder / "erased.safetensors"
    with demo.checkpoint() as file:
        base.symlink_to(file)
    convert(load_recipe(recipe), base, erased, Options(), silent)
    return base, erased


def snoopy_context(
    original: LoadedModel,
    erased: LoadedModel,
    prompts: tuple[str, ...] = ("a photo of snoopy", "snoopy at night"),
    pictures: tuple[Path, ...] = (),
    report: Progress = silent,
) -> AttackContext:
    """A context with two prompts, one training step and few words."""
    concept = Concept.model_validate({"target": "snoopy", "anchor": "dog"})
    distances = TargetDistances(original.weights, concept, PROBE_TEMPLATES, DRIFT_PROMPTS)
    return AttackContext(
        original, erased, "snoopy", prompts, pictures, draws=bool(pictures), distances=distances,
        effort=Effort(steps=1, seeds=2, candidates=40), report=report, others=DRIFT_PROMPTS,
        text_encoders=(),
    )  # fmt: skip
