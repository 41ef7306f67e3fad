"""Train the text encoder alone: from a caption's EOS and padding states, tell what it shows.

Attention is causal, so those states are the ones that have read everything; the U-Net attends to
all 77.  Rows of the token embedding that no caption uses stay zero.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.sd1.architecture import DEMO, architecture_of
from tools.demo_model.data import HELD_OUT, TRAINING, drawings
from tools.demo_model.optimiser import Muon
from tools.demo_model.world import HEADS

BATCH, STEPS, RATE, SHORT = 64, 1200, 1.5e-3, 26


def token_ids(captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (n, 77) and the position of each EOS (n)."""
    tokens = [tokenize(caption) for caption in captions]
    ids = torch.tensor([t.ids for t in tokens], dtype=torch.int32)
    return ids, torch.tensor([t.count - 1 for t in tokens])


def initial(ids: torch.Tensor) -> CLIPTextModel:
    """Random weights; zero embeddings for tokens that do not occur in ids."""
    torch.manual_seed(2)
    model = CLIPTextModel(CLIPTextConfig(**architecture_of(DEMO).text_encoder()))
    table = model.get_input_embeddings().weight
    used = torch.zeros(len(table), 1)
    used[ids.unique().long()] = 1
    with torch.no_grad():
        table.normal_(std=0.5).mul_(used)
    return model


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each head; logits (n, all classes), labels (n, heads)."""
    parts = logits.split([len(classes) for classes in HEADS.values()], dim=1)
    return torch.stack([functional.cross_entropy(p, labels[:, i]) for i, p in enumerate(parts)])


def main(folder: Path) -> None:
    """Train, save, say how often a held-out caption's meaning is read right."""
    data = drawings(folder, TRAINING)
    ids, ends = token_ids(data.captions)
    model = initial(ids)
    head = nn.Linear(96, sum(map(len, HEADS.values())))
    both = nn.ModuleList([model, head])
    optimiser = Muon(both, RATE, STEPS)
    began = time.monotonic()
    for step in range(STEPS):
        rows = torch.randint(len(ids), (BATCH,))
        length = 77 if step % 4 == 0 else SHORT
        batch, end = ids[rows, :length].long(), ends[rows]
        hidden = model(input_ids=batch).last_hidden_state
        read = torch.arange(length)[None] >= end[:, None]
        weight = (read / read.sum(1, keepdim=True))[..., None]
        pooled = (hidden * weight).sum(1)
        single = hidden[torch.arange(BATCH), end]  # EOS itself, which every tool pools by
        labels = data.labels[rows]
        loss = losses(head(pooled), labels).sum() + losses(head(single), labels).sum()
        loss.backward()
        optimiser.step()
        if step % 100 == 0:
            print(f"{step} {loss.item():.3f} {time.monotonic() - began:.0f}s", flush=True)
    model.eval().save_pretrained(folder / "text_encoder")
    check(model, head, *token_ids((held := drawings(folder, HELD_OUT)).captions), held.labels)


@torch.no_grad()
def check(
    model: CLIPTextModel,
    head: nn.Module,
    ids: torch.Tensor,
    ends: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """Print the accuracy of each head; what a caption leaves open can't be read from it."""
    right = []
    for part, end, label in zip(ids.split(200), ends.split(200), labels.split(200), strict=True):
        hidden = model(input_ids=part.long()).last_hidden_state
        logits = head(hidden[torch.arange(len(part)), end])
        parts = logits.split([len(classes) for classes in HEADS.values()], dim=1)
        right.append(torch.stack([p.argmax(1) == label[:, i] for i, p in enumerate(parts)], 1))
    rates = torch.cat(right).float().mean(0)
    print("read right:", {h: round(float(r), 3) for h, r in zip(HEADS, rates, strict=True)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
