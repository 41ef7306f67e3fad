"""Train the U-Net to predict noise on cached latents, given cached text states."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextModel

from erasepro_convert.sd1.architecture import DEMO, SCHEDULER, architecture_of
from tools.demo_model.autoencoder import SCALING, pixels
from tools.demo_model.data import TRAINING, Drawings, drawings
from tools.demo_model.optimiser import Average, Muon
from tools.demo_model.text_encoder import token_ids

BATCH, STEPS, RATE, EMPTY = 128, 6000, 1.5e-3, 0.1


@torch.no_grad()
def latents(folder: Path, pictures: torch.Tensor) -> torch.Tensor:
    """(n, 4, 8, 8), unit variance."""
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    parts = [vae.encode(pixels(p)).latent_dist.mean for p in pictures.split(200)]
    return torch.cat(parts) * SCALING


@torch.no_grad()
def text_states(folder: Path, captions: list[str]) -> torch.Tensor:
    """(n, 77, 96) bfloat16, to save memory."""
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    ids, _ = token_ids(captions)
    parts = [model(input_ids=p.long()).last_hidden_state.bfloat16() for p in ids.split(200)]
    return torch.cat(parts)


def prepare(folder: Path, data: Drawings) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, text states, and the state of the empty prompt; cached in the folder."""
    file = folder / "cache.pt"
    if not file.exists():
        empty = text_states(folder, [""])
        torch.save(
            (latents(folder, data.pictures), text_states(folder, data.captions), empty), file
        )
    pictures, texts, empty = torch.load(file)
    return pictures, texts, empty


def float_attention(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Attention in float32 within autocast: on CPUs bfloat16 is six times slower there."""

    def attend(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return function(*(t.float() for t in tensors), **options)

    return attend


def main(folder: Path) -> None:
    """Train and save."""
    functional.scaled_dot_product_attention = float_attention(
        functional.scaled_dot_product_attention
    )
    data = drawings(folder, TRAINING)
    pictures, texts, empty = prepare(folder, data)
    torch.manual_seed(3)
    model = UNet2DConditionModel(**architecture_of(DEMO).unet())
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod
    optimiser, average = Muon(model, RATE, STEPS), Average(model, 0.999)
    began, running = time.monotonic(), 0.0
    for step in range(STEPS):
        rows = torch.randint(len(pictures), (BATCH,))
        x, text = pictures[rows], texts[rows].float()
        text[torch.rand(BATCH) < EMPTY] = empty[0].float()
        # Stratified: one time from each of BATCH equal spans, so that no batch misses a part.
        spans = (torch.arange(BATCH) + torch.rand(BATCH)) / BATCH
        t = (spans * len(alphas)).long()
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(x)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = model(a.sqrt() * x + (1 - a).sqrt() * noise, t, text).sample
        loss = functional.mse_loss(predicted.float(), noise)
        loss.backward()
        optimiser.step()
        average.update(step)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"{step} {running:.4f} {time.monotonic() - began:.0f}s", flush=True)
    average.load()
    model.save_pretrained(folder / "unet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
