"""Put the three parts into one file with SD1.x's original names, in fp16."""

import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from erasepro_convert.sd1.architecture import DEMO
from erasepro_convert.sd1.keys import POSITION_IDS, POSITIONS, Key, text_keys
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys

METADATA = {
    "format": "pt",
    "modelspec.title": "erasepro-convert demo",
    "modelspec.author": "erasepro-convert",
    "modelspec.license": "Apache-2.0",
    "modelspec.resolution": "64x64",
    "modelspec.description": "A miniature of Stable Diffusion 1.x trained on emoji drawings",
}


def renamed(model: nn.Module, keys: Iterable[Key]) -> dict[str, Tensor]:
    """The model's tensors under their original names and shapes."""
    state = model.state_dict()
    result = {}
    for key in keys:
        name = key.diffusers if key.diffusers in state else key.diffusers.split(".", 1)[1]
        result[key.original] = state.pop(name).reshape(key.shape).half().contiguous()
    assert not [name for name in state if "position_ids" not in name], state.keys()
    return result


def main(folder: Path, out: Path) -> None:
    """Write demo.safetensors."""
    parts = {
        **renamed(UNet2DConditionModel.from_pretrained(folder / "unet"), unet_keys(DEMO)),
        **renamed(AutoencoderKL.from_pretrained(folder / "vae"), vae_keys(DEMO)),
        **renamed(CLIPTextModel.from_pretrained(folder / "text_encoder"), text_keys(DEMO)),
    }
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    parts["betas"] = betas.half()
    parts["alphas_cumprod"] = torch.cumprod(1 - betas, 0).half()
    parts[POSITION_IDS] = torch.arange(POSITIONS)[None]
    save_file(parts, out / "demo.safetensors", METADATA)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
