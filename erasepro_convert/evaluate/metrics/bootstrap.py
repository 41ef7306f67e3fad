"""Resampling of whole prompts: images of one prompt are alike, so they are drawn together."""

from collections.abc import Sequence

import numpy as np

from erasepro_convert.evaluate.metrics.kid_fid import Array

AT_ONCE = 1 << 21
"""How many random numbers are drawn at a time."""


def bootstrap_means(scores: Sequence[Array], replicates: int, seed: int) -> Array:
    """Return bootstrap means over all images (replicates).

    Each replicate draws prompts with replacement, then seeds of each prompt.  ``scores`` has the
    values of each prompt.  Davison and Hinkley, *Bootstrap Methods and their Application* (1997),
    3.8.
    """
    generator = np.random.default_rng(seed)
    counts = np.array([len(values) for values in scores])
    first_of_prompt, pool = np.cumsum(counts) - counts, np.concatenate(scores)
    k, most_seeds = len(scores), int(counts.max())
    batch = max(1, AT_ONCE // (k * most_seeds))
    means = []
    for done in range(0, replicates, batch):
        prompts = generator.integers(k, size=(min(batch, replicates - done), k, 1))
        seeds = generator.integers(counts[prompts], size=(*prompts.shape[:2], most_seeds))
        is_drawn = np.arange(most_seeds) < counts[prompts]  # some prompts have fewer seeds
        sums = (pool[first_of_prompt[prompts] + seeds] * is_drawn).sum((1, 2))
        means.append(sums / is_drawn.sum((1, 2)))
    return np.concatenate(means)
