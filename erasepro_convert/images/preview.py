"""Before and after, side by side: a recipe's own prompts and others, in several checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.images.grid import Row, grid
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1.architecture import Architecture


@dataclass(frozen=True)
class Shown:
    """A prompt and the heading that it stands under."""

    prompt: str
    group: str


@dataclass(frozen=True)
class Preview:
    """The pictures of each checkpoint, (prompts × seeds, 3, size, size) uint8, prompts first."""

    prompts: tuple[Shown, ...]
    headings: tuple[str, ...]
    pictures: tuple[Tensor, ...]

    def image(self) -> Image.Image:
        """The grid."""
        seeds = len(self.pictures[0]) // len(self.prompts)
        rows = [
            Row(shown.prompt, shown.group, [p[i * seeds : (i + 1) * seeds] for p in self.pictures])
            for i, shown in enumerate(self.prompts)
        ]
        return grid(self.headings, rows)


def prompts_of(recipe: Recipe, others: Sequence[str]) -> tuple[Shown, ...]:
    """What a preview shows: targets, their anchors, and prompts that the recipe is not about.

    Each concept stands in its first template and in its first held-out one.
    """
    pairs = [
        pair
        for c in recipe.concepts
        for pair in (*c.prompt_pairs()[:1], *c.prompt_pairs(recipe.probe.prompts)[:1])
    ]
    targets = dict.fromkeys(target for target, _ in pairs)
    anchors = dict.fromkeys(anchor for _, anchor in pairs if anchor not in targets)
    return (
        *(Shown(prompt, "erased") for prompt in targets),
        *(Shown(prompt, "what it becomes") for prompt in anchors),
        *(Shown(prompt, "others") for prompt in others if prompt not in targets | anchors),
    )


def preview(
    recipe: Recipe,
    checkpoints: Sequence[Path],
    *,
    extra: Sequence[str],
    seeds: int,
    sampling: Callable[[Architecture], Sampling],
    progress: Callable[[str, int, int], None],
) -> Preview:
    """Make the same pictures with each checkpoint.

    ``extra`` are prompts to show beside the recipe's own; ``progress`` gets what is being done and
    denoising steps, done and in all.  Raises CheckpointError for a file that makes no pictures.
    """
    made = []
    for number, path in enumerate(checkpoints):
        pipeline, architecture = load_pipeline(path)
        prompts = prompts_of(recipe, [*extra, *architecture.others])
        jobs = [Job(shown.prompt, seed) for shown in prompts for seed in range(seeds)]
        settings = sampling(architecture)
        # The sampler may take a step more than asked; it knows how many itself.
        pipeline.scheduler.set_timesteps(settings.steps)
        each = len(jobs) * len(pipeline.scheduler.timesteps)
        done = number * each

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            progress(path.name, done, each * len(checkpoints))  # noqa: B023  # called in this turn

        with torch.inference_mode():
            made.append(generate(pipeline, architecture, jobs, settings, advance))
    return Preview(prompts, tuple(path.name for path in checkpoints), tuple(made))
