"""Muon for every matrix, convolutions included, AdamW for the rest, one cosine schedule."""

import math

import torch
from torch import nn


class Muon:
    """torch's Muon takes matrices only: a convolution is lent to it as (out, in·height·width)."""

    def __init__(self, model: nn.Module, rate: float, steps: int, warmup: int = 100) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        # A table of embeddings is no map between spaces, and most of its rows get no gradient.
        tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [p for p in trained if p.ndim >= 2 and p not in tables]
        self.lent = [(p, nn.Parameter(p.data.view(len(p), -1))) for p in matrices]
        rest = [p for p in trained if p.ndim < 2 or p in tables]
        self.parts = [
            torch.optim.Muon(
                [flat for _, flat in self.lent],
                lr=rate,
                weight_decay=0.01,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0),
        ]
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(part, lambda step: schedule(step, steps, warmup))
            for part in self.parts
        ]
        self.all = trained

    def step(self) -> None:
        """One step of both, then no gradients."""
        nn.utils.clip_grad_norm_(self.all, 1.0)
        for parameter, flat in self.lent:
            flat.grad = None if parameter.grad is None else parameter.grad.view(len(parameter), -1)
        for part, rate in zip(self.parts, self.schedules, strict=True):
            part.step()
            rate.step()
        for parameter in self.all:
            parameter.grad = None


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (
        1 + math.cos(math.pi * min(1.0, (step - warmup) / (steps - warmup)))
    )


class Average:
    """Exponential moving average of a model's parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.model = decay, model
        self.values = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the current parameters in; the first steps weigh more."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.model.named_parameters():
            self.values[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def load(self) -> None:
        """Put the averages in place of the parameters."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(self.values[name])
