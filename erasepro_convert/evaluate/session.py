"""What is asked of both models, and the drawing of their answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from erasepro_convert.evaluate.datasets import Row
from erasepro_convert.evaluate.drawing import Wanted, draw, missing, shard
from erasepro_convert.evaluate.image_store import MODELS, ImageStore, Model, Settings, digest_of
from erasepro_convert.evaluate.plan import EvalPrompt, plan
from erasepro_convert.evaluate.settings import require_judged, settings_of
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1.architecture import DEMO, Architecture, architecture_of
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Session:
    """What is asked of the original model and of the erased one, and how they answer."""

    recipe: Recipe
    files: Mapping[Model, Path]
    digests: Mapping[Model, str]
    architecture: Architecture
    asked: Sequence[EvalPrompt]
    settings: Settings
    seeds: int
    album: ImageStore

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        base: Path,
        erased: Path,
        album: ImageStore,
        *,
        given: Sequence[EvalPrompt] = (),
        rows: Iterable[Row] = (),
        seeds: int | None = None,
    ) -> "Session":
        """``given`` prompts and ``seeds`` go before the recipe's; ``rows`` are of datasets.

        Where these have captions, they are the other prompts.  Raises CheckpointError for a file
        that makes no pictures, UsageError for a file of prompts that is none and for pictures that
        no judge sees.
        """
        architecture = architecture_in(base)
        require_judged(recipe.evaluate, architecture)
        asked = plan(recipe, given, is_demo=architecture.widths == DEMO)
        published = list(rows)
        if any(row.role == "other" for row in published):
            asked = [one for one in asked if one.role != "other"]
        files: dict[Model, Path] = dict(zip(MODELS, (base, erased), strict=True))
        return cls(
            recipe=recipe,
            files=files,
            digests={model: digest_of(path) for model, path in files.items()},
            architecture=architecture,
            asked=[*asked, *published],
            settings=settings_of(recipe.evaluate, architecture),
            seeds=seeds or recipe.evaluate.seeds,
            album=album,
        )

    def wanted(self, model: Model) -> Wanted:
        """Where the pictures lie that are asked of a model."""
        shots = (
            shot
            for one in self.asked
            # What becomes of anchors is no question; the original's are what targets should become.
            if model == "original" or one.role != "anchor"
            for shot in one.shots(self.seeds, self.settings.guidance)
        )
        digest = self.digests[model]
        return {shot: self.album.path(digest, shot, self.settings) for shot in shots}

    def draw(self, model: Model, wanted: Wanted, progress: Progress) -> None:
        """Make what is missing of a model's pictures."""
        parts = missing(wanted, self.architecture)
        if not parts:
            return
        done, total, lock = 0, self.settings.steps * sum(map(len, parts)), Lock()

        def advance(steps: int) -> None:
            nonlocal done
            with lock:
                done += steps
                # the sampler may take a step more than asked
                progress(f"{model}: {self.files[model].name}", done, max(done, total))

        pipeline, _ = load_pipeline(self.files[model])
        draw(pipeline, self.architecture, wanted, self.settings, self.album, advance)


def draw_shard(session: Session, number: int, count: int, progress: Progress) -> int:
    """Draw the ``number``-th of ``count`` shares (1-based) of all pictures; says how many it has.

    ``progress`` gets what is at work and denoising steps of it.  Raises as ``evaluate`` does, and
    UsageError for a shard that there is not.
    """
    pictures = 0
    for model in MODELS:
        mine = shard(session.wanted(model), session.architecture, number, count)
        session.draw(model, mine, progress)
        pictures += len(mine)
    return pictures


def is_demo(base: Path) -> bool:
    """Whether a checkpoint is the demo model, whose world has prompts and a judge of its own."""
    return architecture_in(base).widths == DEMO


def architecture_in(checkpoint: Path) -> Architecture:
    """A checkpoint's configuration.  Raises CheckpointError for a file that makes no pictures."""
    return architecture_of(open_sd1_checkpoint(checkpoint).layout.widths)
