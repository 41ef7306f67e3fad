"""Train the autoencoder: 3×64×64 pictures to 4×8×8 latents and back."""

import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from erasepro_convert.sd1.architecture import DEMO, architecture_of
from tools.demo_model.data import HELD_OUT, TRAINING, Drawings, drawings
from tools.demo_model.optimiser import Average, Muon

SCALING = 0.18215  # what every SD1.x tool multiplies latents by
BATCH, STEPS, RATE, KL = 24, 5000, 2e-3, 2e-4


def pixels(pictures: torch.Tensor) -> torch.Tensor:
    """Bytes to -1…1."""
    return pictures.float() / 127.5 - 1


def edges(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 between neighbours' differences: keeps outlines sharp where plain L1 blurs them."""
    rows = (a.diff(dim=2) - b.diff(dim=2)).abs().mean()
    return rows + (a.diff(dim=3) - b.diff(dim=3)).abs().mean()


def train(data: Drawings) -> AutoencoderKL:
    """L1, edges and a little Kullback-Leibler, so that latents stay smooth."""
    torch.manual_seed(1)
    model = AutoencoderKL(**architecture_of(DEMO).vae())
    optimiser, average = Muon(model, RATE, STEPS), Average(model, 0.998)
    began = time.monotonic()
    for step in range(STEPS):
        x = pixels(data.pictures[torch.randint(len(data.pictures), (BATCH,))])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(x).latent_dist
            y = model.decode(latents.sample()).sample
        y = y.float()
        rebuilt = functional.l1_loss(y, x) + 0.5 * edges(y, x)
        (rebuilt + KL * latents.kl().float().mean() / 256).backward()
        optimiser.step()
        average.update(step)
        if step % 100 == 0:
            print(f"{step} {rebuilt.item():.4f} {time.monotonic() - began:.0f}s", flush=True)
    average.load()
    return model.eval()


@torch.no_grad()
def standardise(model: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Whiten the latents by the 1×1 convolutions around them, to mean 0 and deviation 1/SCALING."""
    means = torch.cat([model.encode(pixels(part)).latent_dist.mean for part in pictures.split(100)])
    flat = means.double().transpose(0, 1).flatten(1)
    shift = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    whiten = vectors @ torch.diag(values**-0.5) @ vectors.T / SCALING
    inner, outer = model.quant_conv, model.post_quant_conv
    weight, bias = inner.weight.double()[:4, :, 0, 0], inner.bias.double()[:4]
    inner.weight[:4, :, 0, 0] = (whiten @ weight).float()
    inner.bias[:4] = (whiten @ (bias - shift)).float()
    inner.bias[4:] += 2 * torch.log(torch.diag(whiten)).float()  # the variances, nearly
    back = outer.weight.double()[:, :, 0, 0] @ torch.linalg.inv(whiten)
    outer.bias += (outer.weight.double()[:, :, 0, 0] @ shift).float()
    outer.weight[:, :, 0, 0] = back.float()


def main(folder: Path) -> None:
    """Train, standardise, save, say how well unseen pictures are rebuilt."""
    model = train(drawings(folder, TRAINING))
    held_out = drawings(folder, HELD_OUT).pictures[:1000]
    standardise(model, held_out)
    with torch.no_grad():
        latents = torch.cat([model.encode(pixels(p)).latent_dist.mean for p in held_out.split(100)])
        rebuilt = torch.cat([model.decode(p).sample for p in latents.split(100)])
    error = functional.l1_loss(rebuilt, pixels(held_out)) / 2
    print(f"L1 on unseen drawings {error:.4f} of full scale; latents {latents.std() * SCALING:.3f}")
    model.save_pretrained(folder / "vae")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
