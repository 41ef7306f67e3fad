"""Train the judge on drawings, as drawn and as the autoencoder rebuilds them."""

import json
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch.nn import functional

from erasepro_convert.demo.classifier import FILE, Classifier
from tools.demo_model.autoencoder import pixels
from tools.demo_model.data import HELD_OUT, TRAINING, drawings
from tools.demo_model.optimiser import Average, Muon
from tools.demo_model.world import HEADS

BATCH, STEPS, RATE, COPIES = 96, 2400, 2e-3, 12000


@torch.no_grad()
def rebuilt(folder: Path, pictures: torch.Tensor) -> torch.Tensor:
    """The pictures after encoding and decoding, uint8."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    parts = []
    for part in pictures.split(100):
        y = vae.decode(vae.encode(pixels(part)).latent_dist.mean).sample
        parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte())
    return torch.cat(parts)


def varied(pictures: torch.Tensor) -> torch.Tensor:
    """0…1, with a little noise, another brightness and contrast."""
    x = pictures.float() / 255
    x = (x - 0.5) * (1 + 0.15 * torch.randn(len(x), 1, 1, 1)) + 0.5
    x = (
        x
        + 0.05 * torch.randn(len(x), 1, 1, 1)
        + 0.03 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
    )
    return x.clamp(0, 1)


def main(folder: Path, out: Path) -> None:
    """Train, measure on unseen drawings, write."""
    data = drawings(folder, TRAINING)
    copies = rebuilt(folder, data.pictures[:COPIES])
    pictures = torch.cat([data.pictures, copies])
    labels = torch.cat([data.labels, data.labels[:COPIES]])
    torch.manual_seed(4)
    model = Classifier(HEADS)
    optimiser, average = Muon(model, RATE, STEPS), Average(model, 0.995)
    began = time.monotonic()
    for step in range(STEPS):
        rows = torch.randint(len(pictures), (BATCH,))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(varied(pictures[rows]))
        loss = torch.stack(
            [functional.cross_entropy(p.float(), labels[rows, i]) for i, p in enumerate(logits)]
        ).sum()
        loss.backward()
        optimiser.step()
        average.update(step)
        if step % 100 == 0:
            print(f"{step} {loss.item():.4f} {time.monotonic() - began:.0f}s", flush=True)
    average.load()
    model.eval()
    held_out = drawings(folder, HELD_OUT)
    accuracy = {}
    for name, shown in (
        ("drawn", held_out.pictures),
        ("rebuilt", rebuilt(folder, held_out.pictures)),
    ):
        right = {
            head: model.hit_rate(
                shown / 255, head, [classes[i] for i in held_out.labels[:, number]]
            )
            for number, (head, classes) in enumerate(HEADS.items())
        }
        print(name, right)
        accuracy[name] = right
    metadata = {"heads": json.dumps(HEADS), "accuracy": json.dumps(accuracy["drawn"])}
    state = {n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()}
    save_file({n: v.contiguous() for n, v in state.items()}, out / FILE, metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
