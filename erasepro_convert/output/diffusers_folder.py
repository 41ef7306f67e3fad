"""A diffusers folder as output: which tensor goes into which file, and the configurations.

Configurations are written anew, for a folder as input too: its own can name code to run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from diffusers import __version__ as diffusers_version
from transformers import CLIPTextConfig

from erasepro_convert.checkpoint.diffusers_folder import COMPONENTS
from erasepro_convert.clip.hf_tokenizer import write_tokenizer
from erasepro_convert.output.safetensors_writer import OutputTensor
from erasepro_convert.sd1.architecture import SCHEDULER, Architecture, architecture_of
from erasepro_convert.sd1.keys import Widths, text_keys
from erasepro_convert.sd1.read_widths import VARIANTS
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys

PIPELINES = dict(
    zip(
        VARIANTS.values(),
        (
            "StableDiffusionPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionInstructPix2PixPipeline",
        ),
        strict=True,
    )
)
NO_PLACE = "a diffusers folder has no place for it"


def by_file(
    tensors: Sequence[OutputTensor], widths: Widths
) -> tuple[dict[str, list[OutputTensor]], dict[str, str]]:
    """Return each weight file's tensors under diffusers' names, and why others are left out."""
    components = {
        "vae": vae_keys(widths) if any(widths.vae) else (),
        "unet": unet_keys(widths),
        "text_encoder": text_keys(widths),
    }
    places = {
        key.original: (part, key.diffusers) for part, keys in components.items() for key in keys
    }
    files: dict[str, list[OutputTensor]] = {}
    for component in components:
        file = f"{component}/{COMPONENTS[component]}.safetensors"
        for tensor in tensors:
            part, name = places.get(tensor.name, (None, ""))
            if part == component:
                # diffusers keeps the autoencoder's attention as matrices.
                matrix = component == "vae" and ".attentions." in name
                shape = tensor.shape[:2] if matrix else tensor.shape
                files.setdefault(file, []).append(replace(tensor, name=name, shape=shape))
    left_out = (tensor.name for tensor in tensors if tensor.name not in places)
    return files, dict.fromkeys(left_out, NO_PLACE)


def configurations(
    widths: Widths, variant: str, scheduler: Mapping[str, object], clip_skip: int = 1
) -> dict[str, bytes]:
    """Return every file of the folder that holds no weights, by its path in it.

    ``clip_skip`` is how the U-Net is fed: diffusers has the text encoder leave out its last layers.

    Raises CheckpointError for widths for which we know no configuration.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_configurations(architecture_of(widths), folder, variant, scheduler, clip_skip)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def write_configurations(
    architecture: Architecture,
    folder: Path,
    variant: str = VARIANTS[4],
    scheduler: Mapping[str, object] | None = None,
    clip_skip: int = 1,
) -> None:
    """Write what diffusers wants beside weights: in a folder, or as ``config`` of a file."""
    has_vae = any(architecture.widths.vae)
    is_lcm = bool(architecture.widths.guidance) and variant == VARIANTS[4]
    stated = dict(scheduler or {})
    sampler: LCMScheduler | DPMSolverMultistepScheduler = (
        LCMScheduler(**stated) if is_lcm else DPMSolverMultistepScheduler(**SCHEDULER | stated)
    )
    text_encoder = architecture.text_encoder()
    text_encoder["num_hidden_layers"] += 1 - clip_skip
    with torch.device("meta"):
        UNet2DConditionModel(**architecture.unet()).save_config(folder / "unet")
        if has_vae:
            AutoencoderKL(**architecture.vae()).save_config(folder / "vae")
    sampler.save_config(folder / "scheduler")
    CLIPTextConfig(**text_encoder, architectures=["CLIPTextModel"]).save_pretrained(
        folder / "text_encoder"
    )
    write_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "LatentConsistencyModelPipeline" if is_lcm else PIPELINES[variant],
        "_diffusers_version": diffusers_version,
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(sampler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"] if has_vae else [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
