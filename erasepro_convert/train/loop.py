"""Training from a checkpoint to the tensors that it changed."""

from contextlib import nullcontext
from functools import partial
from math import isfinite
from pathlib import Path

import torch
from torch.nn.functional import mse_loss

from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.errors import LimitError
from erasepro_convert.images.pipeline import build_pipeline
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.threads import one_thread
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.train.methods import METHODS, TrainingBatch
from erasepro_convert.train.network import Network
from erasepro_convert.train.result import Fitted
from erasepro_convert.train.resume import State

SCALE = 1024.0
"""Of the loss where types are mixed: gradients of half precision would vanish."""


def train(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    state: Path | None = None,
) -> Fitted:
    """Run a recipe's gradient method; ``dtype`` is the output's (None: each its own).

    With ``state`` it goes on where a training of the same began, and leaves there what it got to.
    A small model is trained in one thread, so that the result does not depend on how many there
    are; a full-size one takes all, and is the same where there are as many.

    Raises CheckpointError for a checkpoint that makes no pictures, LimitError for training that
    diverges, UsageError for a state that is none.
    """
    training = recipe.training
    assert training
    pipeline, architecture = build_pipeline(source)
    keys = {key.original: key for key in unet_keys(source.layout.widths)}
    names = edited_tensors(recipe, source.layout.widths)
    # Where it is fed in both ways, one of them is what its metadata asks for: see ``convert``.
    skip = max(recipe.clip_skip)
    network = Network(pipeline, architecture, [keys[name].diffusers for name in names], skip)
    rate = float(training.learning_rate)
    parameters = list(network.trained.values())
    optimiser: torch.optim.Optimizer = (
        torch.optim.AdamW(parameters, rate)
        if recipe.method == "ac"
        else torch.optim.Adam(parameters, rate)
    )
    kept = State(state, _identity(recipe, network)) if state else None
    with one_thread() if architecture.batch > 1 else nullcontext():
        losses, pictures = kept.load(network.trained, optimiser) if kept else ([], [])

        def keep(*, now: bool) -> None:
            if kept and (now or kept.is_due()):
                kept.save(network.trained, optimiser, losses, pictures)

        def drawing(done: int, total: int) -> None:
            progress("train: drawing anchors", done, total)
            keep(now=False)

        if len(losses) < training.steps:
            try:
                teach = METHODS[recipe.method](network, recipe, training, pictures, drawing)
                for step in range(len(losses), training.steps):
                    note = f"train: loss {losses[-1]:.4f}" if losses else "train"
                    # at each prediction, for a step of a full-size model takes many of them
                    network.watch = partial(progress, note, step, training.steps)
                    losses.append(take_step(network, teach(step), optimiser))
                    keep(now=False)
            finally:  # an interrupt, too, comes through progress
                keep(now=True)
        progress("train", training.steps, training.steps)
    weights = {}
    for name, parameter in zip(names, parameters, strict=True):
        stored = source.read(name)
        weight = parameter.detach().cpu().view(stored.shape).to(dtype or stored.dtype)
        if not torch.isfinite(weight).all():
            raise LimitError(f"training diverged at {name}: lower training.learning_rate")
        weights[name] = weight
    return Fitted(weights, tuple(losses), network.device.type)


def take_step(network: Network, lesson: TrainingBatch, optimiser: torch.optim.Optimizer) -> float:
    """One step of the optimiser; gives the loss, a mean over the lesson's numbers."""
    scale = SCALE if network.device.type == "cuda" else 1.0
    total = 0.0
    optimiser.zero_grad()
    with torch.enable_grad():
        for part in lesson.split(network.together):
            found = network.predict(part.latents, part.times, part.prompts)
            loss = mse_loss(found, part.goal, reduction="sum") / lesson.goal.numel()
            (loss * scale).backward()
            total += float(loss.detach())
    if not isfinite(total):
        raise LimitError(f"training diverged: the loss is {total}; lower training.learning_rate")
    if scale != 1.0:
        for parameter in network.trained.values():
            assert parameter.grad is not None
            parameter.grad /= scale
    optimiser.step()
    return total


def _identity(recipe: Recipe, network: Network) -> str:
    """A digest of what a training depends on.

    Limits are no part of it: who loosens them after a refusal need not train again.
    """
    parts = {"method", "concepts", "layers", "training", "clip_skip"}
    said = recipe.model_dump(mode="json", include=parts)
    return json_digest([said, network.digest(), network.device.type, torch.__version__])
