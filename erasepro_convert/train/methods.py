"""What a step of each gradient method learns from: latents, their times, a prompt and a goal."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import torch
from torch import Tensor

from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.training import Training
from erasepro_convert.train.network import SAMPLING_STEPS, Network

PICTURES = 200
"""Of anchors, at most, that AC is trained on."""


@dataclass(frozen=True)
class TrainingBatch:
    """Latents (n × 4 × s × s) at times (n), and what the U-Net should predict for prompts there."""

    latents: Tensor
    times: Tensor
    prompts: tuple[str, ...]
    goal: Tensor

    def split(self, together: int) -> Iterator["TrainingBatch"]:
        """Some latents at a time."""
        for start in range(0, len(self.latents), together):
            part = slice(start, start + together)
            yield TrainingBatch(
                self.latents[part], self.times[part], self.prompts[part], self.goal[part]
            )


Teach = Callable[[int], TrainingBatch]
"""Gives a step's lesson, which depends on its number and on the network as it is by then."""

Report = Callable[[int, int], None]


def esd(
    network: Network, recipe: Recipe, training: Training, pictures: list[Tensor], report: Report
) -> Teach:
    """Away from the target: Gandikota et al. (2023).

    Goal is ε_o(z, t, "") − η·(ε_o(z, t, c) − ε_o(z, t, "")), with z denoised by the network as
    trained so far, from noise to a step drawn at random.  Anchors play no part.
    """
    del pictures, report
    targets = [target for concept in recipe.concepts for target, _ in concept.prompt_pairs()]

    def teach(step: int) -> TrainingBatch:
        generator = generator_of(training.seed, step)
        prompt = targets[_drawn(len(targets), generator)]
        last = _drawn(SAMPLING_STEPS, generator)
        prompts = (prompt,) * training.batch
        latents, time = network.sampled(prompts, network.noise(training.batch, generator), last)
        times = torch.full((training.batch,), time)
        with network.original():
            plain = network.predict(latents, times, ("",) * training.batch)
            named = network.predict(latents, times, prompts)
        assert training.guidance is not None
        return TrainingBatch(latents, times, prompts, plain - training.guidance * (named - plain))

    return teach


def ac(
    network: Network, recipe: Recipe, training: Training, pictures: list[Tensor], report: Report
) -> Teach:
    """From the target to its anchor: Kumari et al. (2023), the model-based variant.

    Goal is ε(z, t, anchor), of the network as it is and without gradients, as in their code; z are
    the original's latents of anchor prompts, half of them mirrored, with noise added.  ``pictures``
    has those that an earlier run made, and is filled with the others.
    """
    pairs = [pair for concept in recipe.concepts for pair in concept.prompt_pairs()]
    count = min(PICTURES, training.steps * training.batch)
    owners = [pairs[i % len(pairs)] for i in range(count)]
    for start in range(sum(map(len, pictures)), count, network.together):
        network.watch = partial(report, start, count)
        prompts = [anchor for _, anchor in owners[start : start + network.together]]
        # numbers below 0 are no steps
        noise = network.noise(len(prompts), generator_of(training.seed, -1 - start))
        with network.original():
            pictures.append(network.sampled(prompts, noise, SAMPLING_STEPS)[0])
    report(count, count)
    anchors = torch.cat(pictures)

    def teach(step: int) -> TrainingBatch:
        generator = generator_of(training.seed, step)
        chosen = torch.randint(count, (training.batch,), generator=generator)
        times = torch.randint(network.times, (training.batch,), generator=generator)
        mirrored = torch.rand(training.batch, generator=generator) < 0.5
        latents = anchors[chosen]
        latents = torch.where(mirrored[:, None, None, None], latents.flip(-1), latents)
        noisy = network.noised(latents, network.noise(training.batch, generator), times)
        asked = [owners[i] for i in chosen.tolist()]
        with torch.no_grad():
            goal = network.predict(noisy, times, [anchor for _, anchor in asked])
        return TrainingBatch(noisy, times, tuple(target for target, _ in asked), goal)

    return teach


METHODS = {"esd-x": esd, "esd-u": esd, "ac": ac}


def generator_of(seed: int, step: int) -> torch.Generator:
    """One for each step, so that going on with a training needs no generator's state."""
    number = int.from_bytes(sha256(f"{seed} {step}".encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(number)


def _drawn(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))
