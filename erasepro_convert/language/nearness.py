"""Which words mean the same to a checkpoint as a target does.

The U-Net reads words as keys and values alone.  With f(w) the text feature of a word's last token
in "a WORD", words are as far apart as their keys and values are:

    |w − v|² = Σ ‖W f(w) − W f(v)‖² / spread(W)²

over the matrices W of the cross-attention, where spread(W)² = tr(W C Wᵀ) and C is the covariance of
common words' features.  Dividing by the spread makes no matrix count for the size of its numbers.

A word is a synonym of a target to the checkpoint where |w − target| is less than ``SYNONYM`` times
|target − anchor|: it is as near to the target as an erased target may be to what it was.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.sd1 import key_value_matrices

SYNONYM = 0.5
"""The share of the distance from target to anchor below which a word counts as a synonym."""


def key_value_metric(read: ReadTensor, features: Tensor) -> Tensor:
    """Return M (d × d, float32): the sum of WᵀW / spread(W)² over the cross-attention's matrices.

    ``features`` (n × d) are those of common words.
    """
    centred = (features - features.mean(0)).float()
    covariance = centred.T @ centred / len(centred)
    metric = torch.zeros_like(covariance)
    for name in key_value_matrices():
        gram = read(name).float()
        gram = gram.T @ gram
        metric += gram / (gram * covariance).sum()
    return metric


def distances(left: Tensor, right: Tensor, metric: Tensor) -> Tensor:
    """Return |l − r| for each pair of features (n × d, or n × d and d)."""
    difference = left - right
    return ((difference @ metric) * difference).sum(-1).clamp(min=0).sqrt()


def synonyms(
    words: Sequence[int],
    features: Tensor,
    pairs: Iterable[tuple[Tensor, Tensor]],
    metric: Tensor,
) -> dict[int, float]:
    """Return the words that are synonyms of any target, with their distance as a share.

    ``features`` (W × d) belong to ``words``, ``pairs`` are the features of targets and anchors.
    The share is |w − target| / |target − anchor|; of several targets the nearest counts.
    """
    found: dict[int, float] = {}
    centre = features.mean(0)
    moved = features - centre
    projected = moved @ metric  # once for all targets
    squares = (projected * moved).sum(1)
    for target, anchor in pairs:
        own = target - centre
        square = squares - 2 * projected @ own + own @ metric @ own
        shares = square.clamp(min=0).sqrt() / distances(anchor, target, metric)
        for i in (shares < SYNONYM).nonzero()[:, 0].tolist():
            found[words[i]] = min(float(shares[i]), found.get(words[i], SYNONYM))
    return found
