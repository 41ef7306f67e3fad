"""SD1.x checkpoints with random weights: every key of the real thing, as narrow as one likes.

Run as ``python -m tests.miniature FILE [--full] [--dtype fp16] [--ema]`` to write one.
"""

import argparse
import math
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from erasepro_convert.runtime.dtypes import DTYPE_OPTIONS, DtypeOption, torch_dtype
from erasepro_convert.sd1.keys import POSITION_IDS, POSITIONS, SD1, Key, Widths, text_keys
from erasepro_convert.sd1.unet import ema_name, unet_keys
from erasepro_convert.sd1.vae import vae_keys

MINIATURE = Widths((32, 64, 96, 96), 128, 4, (32, 64, 96, 96), 48, 96)

State = dict[str, Tensor]


def state_dict(widths: Widths = MINIATURE, seed: int = 0, dtype: DtypeOption = "fp32") -> State:
    """A whole checkpoint with random weights."""
    to = torch_dtype(DTYPE_OPTIONS[dtype])
    keys = chain(unet_keys(widths), vae_keys(widths), text_keys(widths))
    state = {name: value.to(to) for name, value in weights(keys, seed).items()}
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    state["betas"] = betas.to(to)
    state["alphas_cumprod"] = torch.cumprod(1 - betas, 0).to(to)
    state[POSITION_IDS] = torch.arange(POSITIONS)[None]
    return state


def weights(keys: Iterable[Key], seed: int = 0) -> State:
    """Random float32 weights, scaled so that features neither vanish nor blow up with depth."""
    generator = torch.Generator().manual_seed(seed)
    return {key.original: _random(key, generator) for key in keys}


def _random(key: Key, generator: torch.Generator) -> Tensor:
    noise = torch.randn(key.shape, generator=generator)
    if len(key.shape) == 1:  # a norm's scale is near one; biases and shifts are near zero
        return 0.1 * noise + ("norm" in key.diffusers and key.original.endswith("weight"))
    if "embedding" in key.original:
        return noise
    return noise / math.sqrt(math.prod(key.shape[1:]))


def with_ema(state: State) -> State:
    """Add what Lightning's EMA adds: a copy of each U-Net tensor under a name without dots."""
    copies = {
        ema_name(name): value * 1.001
        for name, value in state.items()
        if name.startswith("model.diffusion_model.")
    }
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    return {**state, **copies, **counters}


def components(state: State, widths: Widths = MINIATURE) -> dict[str, State]:
    """The same model as diffusers keeps it: a state dict a component, its names and shapes."""
    tables = {"unet": unet_keys(widths), "text_encoder": text_keys(widths), "vae": vae_keys(widths)}
    named = {part: {k.diffusers: state[k.original] for k in keys} for part, keys in tables.items()}
    for name, value in named["vae"].items():
        if ".attentions." in name:
            named["vae"][name] = value.flatten(1) if value.dim() == 4 else value
    return named


def save_folder(state: State, folder: Path, variant: str = "") -> Path:
    """Write a diffusers folder; ``variant`` goes into the names of its files (``.fp16``)."""
    stems = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    for part, tensors in components(state).items():
        (folder / part).mkdir(parents=True)
        stem = stems.get(part, stems["unet"])
        save_file(tensors, folder / part / f"{stem}{variant}.safetensors")
    return folder


def main() -> None:
    """Write a checkpoint; the container follows from the file's name."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--full", action="store_true", help="SD1.x's real widths")
    parser.add_argument("--dtype", choices=list(DTYPE_OPTIONS), default="fp32")
    parser.add_argument("--ema", action="store_true")
    args = parser.parse_args()
    state = state_dict(SD1 if args.full else MINIATURE, dtype=args.dtype)
    if args.ema:
        state = with_ema(state)
    if args.file.suffix == ".safetensors":
        save_file(state, args.file)
    else:
        torch.save({"state_dict": state, "global_step": 840000}, args.file)


if __name__ == "__main__":
    main()
