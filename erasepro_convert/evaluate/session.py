"""The prompts of an evaluation, both models, and the drawing of their pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from erasepro_convert.evaluate.drawing import ImagePaths, draw_missing, missing_batches, shard
from erasepro_convert.evaluate.image_store import MODELS, ImageStore, ModelName, Settings
from erasepro_convert.evaluate.plan import EvalPrompt, plan_prompts
from erasepro_convert.evaluate.settings import require_judged_size, resolve_settings
from erasepro_convert.images.open_model import OpenModel
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.architecture import Architecture


@dataclass(frozen=True)
class Session:
    """What both models draw: prompts, seeds and settings, and where the pictures are kept."""

    recipe: Recipe
    models: Mapping[ModelName, OpenModel]
    prompts: Sequence[EvalPrompt]
    settings: Settings
    seeds: int
    store: ImageStore

    @classmethod
    def plan(
        cls,
        recipe: Recipe,
        original: OpenModel,
        erased: OpenModel,
        store: ImageStore,
        *,
        user_prompts: Sequence[EvalPrompt] = (),
        dataset_prompts: Iterable[EvalPrompt] = (),
        seeds: int | None = None,
    ) -> "Session":
        """Plan an evaluation of two open models.

        ``user_prompts`` and ``seeds`` take precedence over the recipe's.  Where
        ``dataset_prompts`` include other prompts, these replace the recipe's.

        Raises CheckpointError for a file that makes no pictures, UsageError for a file of prompts
        that cannot be read and for a picture size that the model's judge does not see.
        """
        architecture = original.architecture
        require_judged_size(recipe.evaluate, architecture)
        prompts = plan_prompts(recipe, user_prompts, is_demo=original.is_demo)
        published = list(dataset_prompts)
        if any(prompt.role == "other" for prompt in published):
            prompts = [prompt for prompt in prompts if prompt.role != "other"]
        return cls(
            recipe=recipe,
            models=dict(zip(MODELS, (original, erased), strict=True)),
            prompts=[*prompts, *published],
            settings=resolve_settings(recipe.evaluate, architecture),
            seeds=seeds or recipe.evaluate.seeds,
            store=store,
        )

    @property
    def architecture(self) -> Architecture:
        """The configuration of both models."""
        return self.models["original"].architecture

    def image_paths(self, model: ModelName) -> ImagePaths:
        """Return where each picture of a model lies, or will lie."""
        requests = (
            request
            for prompt in self.prompts
            # Only the original draws anchors: they show what targets should become.
            if model == "original" or prompt.role != "anchor"
            for request in prompt.requests(self.seeds, self.settings.guidance)
        )
        digest = self.models[model].digest
        return {request: self.store.path(digest, request, self.settings) for request in requests}

    def draw(self, model: ModelName, paths: ImagePaths, progress: Progress) -> None:
        """Draw the pictures of a model that do not exist yet."""
        batches = missing_batches(paths, self.architecture)
        if not batches:
            return
        done, total, lock = 0, self.settings.steps * sum(map(len, batches)), Lock()
        checkpoint = self.models[model]

        def advance(steps: int) -> None:
            nonlocal done
            with lock:
                done += steps
                # A sampler may take one step more than it was given.
                progress(f"{model}: {checkpoint.path.name}", done, max(done, total))

        pipeline = checkpoint.load_pipeline()
        draw_missing(pipeline, self.architecture, paths, self.settings, self.store, advance)


def draw_shard(session: Session, number: int, count: int, progress: Progress) -> int:
    """Draw shard ``number`` of ``count`` (counted from 1); return how many pictures it has.

    ``progress`` gets the name of the model at work and the denoising steps done and in all.
    Raises what ``evaluate`` raises, and UsageError for a shard number out of range.
    """
    pictures = 0
    for model in MODELS:
        paths = shard(session.image_paths(model), session.architecture, number, count)
        session.draw(model, paths, progress)
        pictures += len(paths)
    return pictures
