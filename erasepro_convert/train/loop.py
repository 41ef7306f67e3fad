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
from erasepro_convert.train.resume import TrainingState

SCALE = 1024.0
"""The factor of the loss where types are mixed: gradients of half precision would vanish."""


def train(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    state: Path | None = None,
) -> Fitted:
    """Run a recipe's gradient method; ``dtype`` is the output's (None: each its own).

    ``state`` is the file that an interrupted training leaves; this one goes on from it where the
    training has the same identity, and leaves its own there.  A small model is trained in one
    thread, so that the result does not depend on the number of threads.  A full-size model takes
    all threads, and its result is the same only where their number is.

    Raises CheckpointError for a checkpoint that makes no pictures, LimitError for training that
    diverges, UsageError for a file at ``state`` that a training did not write.
    """
    training = recipe.training
    assert training
    pipeline, architecture = build_pipeline(source)
    keys = {key.original: key for key in unet_keys(source.layout.widths)}
    names = edited_tensors(recipe, source.layout.widths)
    # Where the recipe has both ways of feeding, metadata asked for one of them: see ``convert``.
    skip = max(recipe.clip_skip)
    network = Network(pipeline, architecture, [keys[name].diffusers for name in names], skip)
    rate = float(training.learning_rate)
    parameters = list(network.trained.values())
    method = METHODS[recipe.method]
    optimiser = method.optimiser(parameters, rate)
    kept = TrainingState(state, _identity(recipe, network)) if state else None
    with one_thread() if architecture.batch > 1 else nullcontext():
        losses, anchor_latents = kept.load(network.trained, optimiser) if kept else ([], [])

        def keep(*, now: bool) -> None:
            if kept and (now or kept.is_due()):
                kept.save(network.trained, optimiser, losses, anchor_latents)

        def drawing(done: int, total: int) -> None:
            progress("train: drawing anchors", done, total)
            keep(now=False)

        if len(losses) < training.steps:
            try:
                make_batch = method.prepare(network, recipe, training, anchor_latents, drawing)
                for step in range(len(losses), training.steps):
                    note = f"train: loss {losses[-1]:.4f}" if losses else "train"
                    # Reported at each prediction: a step of a full-size model takes many.
                    network.watch = partial(progress, note, step, training.steps)
                    losses.append(take_step(network, make_batch(step), optimiser))
                    keep(now=False)
            finally:  # progress raises an interrupt, too
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


def take_step(network: Network, batch: TrainingBatch, optimiser: torch.optim.Optimizer) -> float:
    """Take one step of the optimiser; gives the loss, the mean over the numbers of the goal."""
    scale = SCALE if network.device.type == "cuda" else 1.0
    total = 0.0
    optimiser.zero_grad()
    with torch.enable_grad():
        for part in batch.split(network.micro_batch_size):
            found = network.predict(part.latents, part.times, part.prompts)
            loss = mse_loss(found, part.goal, reduction="sum") / batch.goal.numel()
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
    """Return a digest of what a training depends on.

    Limits are left out: after a refusal they can be loosened without training again.
    """
    parts = {"method", "concepts", "layers", "training", "clip_skip"}
    said = recipe.model_dump(mode="json", include=parts)
    return json_digest([said, network.digest(), network.device.type, torch.__version__])
