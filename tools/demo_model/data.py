"""The training set: pictures, their captions and their labels, drawn once and kept in a folder."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tools.demo_model.world import caption, draw, scene

SHARD = 2000


@dataclass(frozen=True)
class Drawings:
    """n pictures (n, 3, 64, 64) uint8, captions (n), labels (n, heads) int64."""

    pictures: torch.Tensor
    captions: list[str]
    labels: torch.Tensor


def shard(seed: int) -> tuple[np.ndarray, list[str], list[list[int]]]:
    """SHARD drawings of one seed."""
    rng = np.random.default_rng(seed)
    scenes = [scene(rng) for _ in range(SHARD)]
    pictures = np.stack([draw(s, rng) for s in scenes]).transpose(0, 3, 1, 2)
    return pictures, [caption(s, rng) for s in scenes], [s.labels() for s in scenes]


def drawings(folder: Path, shards: range) -> Drawings:
    """SHARD drawings for each number in shards, the same ones every time."""
    stem = folder / f"drawings-{shards.start}-{shards.stop}"
    pictures, rest = stem.with_suffix(".npy"), stem.with_suffix(".json")
    if not rest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(2) as pool:
            parts = list(pool.map(shard, shards))
        np.save(pictures, np.concatenate([p for p, _, _ in parts]))
        captions = [c for _, part, _ in parts for c in part]
        rest.write_text(json.dumps([captions, [row for _, _, part in parts for row in part]]))
    captions, labels = json.loads(rest.read_text())
    return Drawings(torch.from_numpy(np.load(pictures)), captions, torch.tensor(labels))


TRAINING = range(30)
HELD_OUT = range(1000, 1002)
