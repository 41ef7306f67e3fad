"""The training batches of each gradient method, and the optimiser that learns from them.

``recipe.methods`` has the row of each method, with what it is and what its recipes may say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import torch
from torch import Tensor

from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.training import Training
from erasepro_convert.train.network import SAMPLING_STEPS, Network

MOST_ANCHORS = 200
"""Anchor latents, at most, that AC is trained on."""


@dataclass(frozen=True)
class TrainingBatch:
    """Latents (n × 4 × s × s) at times (n), with the prompts that the U-Net gets for them.

    ``goal`` is the noise that it should predict, of the latents' shape.
    """

    latents: Tensor
    times: Tensor
    prompts: tuple[str, ...]
    goal: Tensor

    def split(self, micro_batch_size: int) -> Iterator["TrainingBatch"]:
        """Give micro-batches, the last of which can be smaller."""
        for start in range(0, len(self.latents), micro_batch_size):
            part = slice(start, start + micro_batch_size)
            yield TrainingBatch(
                self.latents[part], self.times[part], self.prompts[part], self.goal[part]
            )


MakeBatch = Callable[[int], TrainingBatch]
"""Makes the batch of a step, which depends on its number and on the network as it is by then."""

Report = Callable[[int, int], None]

Prepare = Callable[[Network, Recipe, Training, list[Tensor], Report], MakeBatch]
"""Prepares a training.

The list has the anchor latents (k × 4 × s × s each) that an interrupted run drew, and those that
are drawn now are appended to it.  The report gets how many are drawn and how many there will be.
"""


def esd(
    network: Network,
    recipe: Recipe,
    training: Training,
    anchor_latents: list[Tensor],
    report: Report,
) -> MakeBatch:
    """Train away from the target: ESD (Gandikota et al., 2023).

    The goal is ε_o(z, t, "") − η·(ε_o(z, t, c) − ε_o(z, t, "")).  The network as trained so far
    denoises z from noise up to a step that is drawn at random.  Anchors play no part.
    """
    del anchor_latents, report
    targets = [target for concept in recipe.concepts for target, _ in concept.prompt_pairs()]

    def make_batch(step: int) -> TrainingBatch:
        generator = generator_of(training.seed, step)
        prompt = targets[_draw_below(len(targets), generator)]
        last = _draw_below(SAMPLING_STEPS, generator)
        prompts = (prompt,) * training.batch
        latents, time = network.denoise(
            prompts, network.draw_noise(training.batch, generator), last
        )
        times = torch.full((training.batch,), time)
        with network.original():
            plain = network.predict(latents, times, ("",) * training.batch)
            prompted = network.predict(latents, times, prompts)
        assert training.guidance is not None
        return TrainingBatch(
            latents, times, prompts, plain - training.guidance * (prompted - plain)
        )

    return make_batch


def ac(
    network: Network,
    recipe: Recipe,
    training: Training,
    anchor_latents: list[Tensor],
    report: Report,
) -> MakeBatch:
    """Train from the target to its anchor: the model-based variant of AC (Kumari et al., 2023).

    The goal is ε(z, t, anchor) of the network as it is, without gradients, as in the published
    code.  z are latents that the original draws of anchor prompts, half of them mirrored, with
    noise added.
    """
    pairs = [pair for concept in recipe.concepts for pair in concept.prompt_pairs()]
    count = min(MOST_ANCHORS, training.steps * training.batch)
    owners = [pairs[i % len(pairs)] for i in range(count)]
    size = network.micro_batch_size
    for start in range(sum(map(len, anchor_latents)), count, size):
        network.watch = partial(report, start, count)
        prompts = [anchor for _, anchor in owners[start : start + size]]
        # Steps count from 0, so a number below 0 gives noise that no step has.
        noise = network.draw_noise(len(prompts), generator_of(training.seed, -1 - start))
        with network.original():
            anchor_latents.append(network.denoise(prompts, noise, SAMPLING_STEPS)[0])
    report(count, count)
    anchors = torch.cat(anchor_latents)

    def make_batch(step: int) -> TrainingBatch:
        generator = generator_of(training.seed, step)
        chosen = torch.randint(count, (training.batch,), generator=generator)
        times = torch.randint(network.time_count, (training.batch,), generator=generator)
        mirrored = torch.rand(training.batch, generator=generator) < 0.5
        latents = anchors[chosen]
        latents = torch.where(mirrored[:, None, None, None], latents.flip(-1), latents)
        noisy = network.add_noise(latents, network.draw_noise(training.batch, generator), times)
        drawn_pairs = [owners[i] for i in chosen.tolist()]
        with torch.no_grad():
            goal = network.predict(noisy, times, [anchor for _, anchor in drawn_pairs])
        return TrainingBatch(noisy, times, tuple(target for target, _ in drawn_pairs), goal)

    return make_batch


@dataclass(frozen=True)
class TrainingMethod:
    """How a method makes its batches, and the optimiser of its published code."""

    prepare: Prepare
    optimiser: type[torch.optim.Adam]


METHODS: dict[str, TrainingMethod] = {
    "esd-x": TrainingMethod(esd, torch.optim.Adam),
    "esd-u": TrainingMethod(esd, torch.optim.Adam),
    "ac": TrainingMethod(ac, torch.optim.AdamW),
}


def generator_of(seed: int, part: int | str) -> torch.Generator:
    """Return a generator for one part of what a seed decides, such as one step of a training.

    A resumed training needs no generator's state.
    """
    number = int.from_bytes(sha256(f"{seed} {part}".encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(number)


def _draw_below(limit: int, generator: torch.Generator) -> int:
    """Draw a whole number from 0 up to, but not including, ``limit``."""
    return int(torch.randint(limit, (1,), generator=generator))
