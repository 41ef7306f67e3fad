"""Load a single file in diffusers without any network: the configs that from_single_file wants."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from erasepro_convert.clip.tokenizer import vocabulary
from erasepro_convert.layout.keys import SD1, Widths

LEVELS = 4
UNET_CONFIG: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": SD1.text,
    "attention_head_dim": 8,
    "block_out_channels": SD1.unet,
}
VAE_CONFIG: dict[str, Any] = {
    "sample_size": 512,
    "block_out_channels": SD1.vae,
    "down_block_types": ("DownEncoderBlock2D",) * LEVELS,
    "up_block_types": ("UpDecoderBlock2D",) * LEVELS,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def clip_tokenizer() -> CLIPTokenizer:
    """Transformers' tokenizer on our vocabulary."""
    words, merges = vocabulary()
    return CLIPTokenizer(vocab=words, merges=merges, model_max_length=77)


def write_configs(folder: Path, widths: Widths) -> None:
    """A diffusers model folder without weights."""
    unet = {**UNET_CONFIG, "block_out_channels": widths.unet, "cross_attention_dim": widths.text}
    with torch.device("meta"):
        UNet2DConditionModel(**unet).save_config(folder / "unet")
        AutoencoderKL(**VAE_CONFIG | {"block_out_channels": widths.vae}).save_config(folder / "vae")
    text = {
        "model_type": "clip_text_model",
        "architectures": ["CLIPTextModel"],
        "hidden_size": widths.text,
        "intermediate_size": widths.mlp,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 1,
    }
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    scheduler = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"}
    for path, config in {
        "model_index.json": index,
        "text_encoder/config.json": text,
        "scheduler/scheduler_config.json": scheduler,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(config))
    clip_tokenizer().save_pretrained(folder / "tokenizer")


def load(file: Path, configs: Path) -> StableDiffusionPipeline:
    """The pipeline that diffusers makes of a single file, offline."""
    return StableDiffusionPipeline.from_single_file(
        str(file),
        config=str(configs),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
    )
