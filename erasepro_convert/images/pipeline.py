"""A diffusers pipeline from any checkpoint that this package can convert.

diffusers' own ``from_single_file`` leaves reading to torch, which either refuses a training
checkpoint or runs what is in it.  Here this package's reader reads the tensors, and the key table
says which diffusers name each original name has.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from erasepro_convert.clip.hf_tokenizer import clip_tokenizer
from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.architecture import SCHEDULER, Architecture, architecture_of
from erasepro_convert.sd1.keys import POSITIONS, Key, text_keys
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys


def parameters_by_name(
    model: nn.Module, keys: Iterable[Key]
) -> dict[str, tuple[str, nn.Parameter]]:
    """Map original names to the parameters of a pipeline's part, each with its name there."""
    known = dict(model.named_parameters())
    found = {}
    for key in keys:
        # transformers 5 dropped the "text_model." in front.
        name = key.diffusers if key.diffusers in known else key.diffusers.split(".", 1)[1]
        found[key.original] = name, known[name]
    return found


def select_device() -> torch.device:
    """Return CUDA or Apple's MPS if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load_pipeline(path: Path) -> tuple[StableDiffusionPipeline, Architecture]:
    """Open a checkpoint and build its pipeline.

    Raises CheckpointError as ``build_pipeline`` does, and for a file that is not SD1.x.
    """
    return build_pipeline(open_sd1_checkpoint(path))


def build_pipeline(source: SD1Checkpoint) -> tuple[StableDiffusionPipeline, Architecture]:
    """Build a pipeline from an open checkpoint, in float16 on CUDA and float32 elsewhere.

    Raises CheckpointError for a checkpoint that has no VAE, that is an inpainting or similar
    variant or a latent consistency model, or whose widths have no known configuration.
    """
    name, widths = source.checkpoint.name, source.layout.widths
    architecture = architecture_of(widths)
    if not any(widths.vae):
        raise CheckpointError(f"{name} has no VAE, so it makes no pictures")
    if widths.in_channels != 4:
        raise CheckpointError(
            f"{name} is {source.layout.variant}: it makes pictures of pictures, not of prompts"
        )
    if widths.guidance:
        raise CheckpointError(
            f"{name} is a latent consistency model (LCM): its pictures take a sampler of its own, "
            "which there is none of here; its erasure is measured on text features alone"
        )
    dtype = torch.float16 if select_device().type == "cuda" else torch.float32
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture.unet())
        vae = AutoencoderKL(**architecture.vae())
    pipeline = StableDiffusionPipeline(
        vae=_filled(vae, source, vae_keys(widths), dtype),
        text_encoder=build_text_encoder(source, architecture, dtype),
        tokenizer=clip_tokenizer(),
        unet=_filled(unet, source, unet_keys(widths), dtype),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER | source.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, architecture


def build_text_encoder(
    source: SD1Checkpoint, architecture: Architecture, dtype: torch.dtype
) -> CLIPTextModel:
    """Build the text encoder of an open checkpoint alone."""
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(**architecture.text_encoder()))
    _filled(text, source, text_keys(architecture.widths), dtype)
    for module in text.modules():
        if hasattr(module, "position_ids"):  # it is a buffer that the state dict lacks
            module.position_ids = torch.arange(POSITIONS, device=select_device())[None]
    return text


def _filled(
    model: nn.Module, source: SD1Checkpoint, keys: Iterable[Key], dtype: torch.dtype
) -> Any:
    """Give a model, so far without memory, the checkpoint's tensors."""
    state = {}
    for original, (name, parameter) in parameters_by_name(model, keys).items():
        tensor = source.read(original).to(select_device(), dtype)
        state[name] = tensor.view(parameter.shape)  # 1×1 convolutions of the VAE's attention
    model.load_state_dict(state, assign=True)
    return model.eval()
