"""Recognise files that are no whole SD1.x checkpoint, so that a refusal can say what they are."""

import re
from collections.abc import Collection, Mapping

from erasepro_convert.checkpoint.tensor_info import TensorInfo
from erasepro_convert.sd1.keys import FIRST_CONVOLUTION, TEXT, UNET

Signatures = tuple[tuple[str, str], ...]
"""Pairs of a regular expression and what it shows to find it in a tensor's name.

The most telling pair comes first."""

OTHER_MODELS: Signatures = (
    (r"^depth_model\.", "a Stable Diffusion 2 depth model"),
    (r"^cc_projection\.", "Stable Zero123 (it is conditioned on a picture, not on a prompt)"),
    (r"^cond_stage_model\.model\.", "Stable Diffusion 2.x (OpenCLIP text encoder)"),
    (r"^cond_stage_model\.roberta\.", "AltDiffusion (RoBERTa text encoder)"),
    (r"^conditioner\.embedders\.0\.open_clip\.", "Stable Video Diffusion"),
    (r"^conditioner\.embedders\.1\.", "SDXL"),
    (r"^conditioner\.embedders\.0\.", "the SDXL refiner"),
    (r"^(model\.diffusion_model\.)?joint_blocks\.", "Stable Diffusion 3"),
    (r"^(model\.diffusion_model\.)?double_blocks\.", "Flux"),
)

ADDITIONS: Signatures = (
    # These are trained beside a model.  They come in files of their own or inside a model's parts.
    (r"\.(hada_w[12]|lokr_w[12]|oft_blocks|oft_diag)|^lycoris_", "a LyCORIS network"),
    (r"\.lora_([AB]|embedding_[AB])\b|^base_model\.model\.", "a LoRA as PEFT saves it"),
    (r"^lora_|[._]lora[._]", "a LoRA"),
    (r"motion_modules\.|temporal_(transformer|attentions?)\b", "a motion module (AnimateDiff)"),
    (r"to_[kv]_ip\b|^(ip_adapter|image_proj)\.|encoder_hid_proj\.", "an IP-Adapter"),
    (r"(^|\.)position_net\.|\.fuser\.", "GLIGEN's grounding layers"),
    (
        r"^control_model\.|^controlnet_(cond|down|mid)|(^|\.)(input_hint_block|zero_convs)\.",
        "a ControlNet",
    ),
    (r"^(adapter\.)?body\.\d+\.(resnets\.\d+\.)?(in_conv|block[12])\.", "a T2I-Adapter"),
    (r"^string_to_param|^emb_params$|^clip_[lg]$", "a textual-inversion embedding"),
    (
        r"^(model\.1\.sub|body\.\d+\.rdb\d|layers\.\d+\.residual_group)\.|^conv_first\.",
        "an upscaler",
    ),
)

CHANGES: Signatures = (
    # These make a part of a model differ from SD1.x's.
    (r"\.(absmax|quant_map|nested_absmax|SCB)$|\.quant_state\.", "quantised by bitsandbytes"),
    (r"\.(scales|biases)$", "quantised as MLX does"),
    (
        r"scaled_fp8|comfy_quant|\.(weight_scale|scale_weight|scale_input)$",
        "quantised to scaled 8-bit floats",
    ),
    (r"\.(label_emb|class_embedding)\.", "conditioned on a class beside the prompt"),
    (r"\.add_embedding\.", "conditioned on sizes beside the prompt, as SDXL's"),
    (r"\.position_embedding_(res|ori)\.", "Long-CLIP, for prompts of 248 tokens"),
    (r"\.time_(stack|mixer|conv_out)\.", "for video"),
)

PARTS: Signatures = (
    (r"^down_blocks\.", "a diffusers U-Net"),
    (r"^input_blocks\.", "a U-Net, without model.diffusion_model. before its names,"),
    (r"^vision_model\.", "a CLIP model with its half for pictures"),
    (r"^text_model\.|^cond_stage_model\.|^text_encoder\.", "a text encoder"),
    (r"^first_stage_model\.|^vae\.|^(de|en)coder\.|^taesd", "an autoencoder (VAE)"),
)

VECTOR_WIDTHS = (768, 1024, 1280)
"""Widths of text encoders: diffusers saves an embedding as one tensor of such a width, with any
name."""


def describe_other_file(known: Mapping[str, TensorInfo]) -> str:
    """Say what a file is that lacks the U-Net's first layer or the text encoder's last one."""
    has_unet = any(name.startswith(UNET) for name in known)
    what_it_is = _name_other_model(known)
    if what_it_is is None and FIRST_CONVOLUTION not in known:
        what_it_is = _name_addition(known)
    if what_it_is is None and not has_unet:
        what_it_is = _name_part(known)
    if what_it_is is not None:
        return f"not a Stable Diffusion 1.x checkpoint: {what_it_is}"
    if has_unet and TEXT + "final_layer_norm.weight" not in known:
        return (
            "the text encoder is missing (no cond_stage_model.transformer.* tensors): erasure "
            "starts there; --text-encoder FILE takes it from the checkpoint that this U-Net was "
            "trained with, or from CLIP ViT-L/14"
        )
    if has_unet:
        return (
            f"not a complete Stable Diffusion 1.x checkpoint: its U-Net has no {FIRST_CONVOLUTION}"
        )
    examples = ", ".join(sorted(known)[:3]) or "no tensors at all"
    return f"not a Stable Diffusion 1.x checkpoint: no U-Net ({UNET}*) in it; it holds {examples}"


def _name_other_model(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Name the other model that this is, with the evidence; None if it is unknown."""
    found = _first_match(tensors, OTHER_MODELS)
    return found and "this is {} (it holds {})".format(*found)


def _name_addition(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Name the addition to a model that this file holds, with the evidence; None if unknown."""
    found = _first_match(tensors, ADDITIONS)
    if found is None and len(tensors) == 1:
        ((name, info),) = tensors.items()
        if len(info.shape) in (1, 2) and info.shape[-1] in VECTOR_WIDTHS:
            found = "a textual-inversion embedding", f"{name} alone"
    return found and "this is {}, not a checkpoint (it holds {})".format(*found)


def _name_part(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Name the part of a model that this file holds, with the evidence; None if unknown."""
    found = _first_match(tensors, PARTS)
    return found and "this is {} alone (it holds {})".format(*found)


def name_inside(name: str) -> str | None:
    """Say what a tensor that SD1.x lacks makes of the part that holds it; None if unknown."""
    if found := _first_match([name], ADDITIONS):
        return f"it has {found[0]} built in"
    found = _first_match([name], CHANGES)
    return f"it is {found[0]}" if found else None


def _first_match(names: Collection[str], table: Signatures) -> tuple[str, str] | None:
    """Return what the first matching signature shows, and the first name that it matches."""
    for pattern, description in table:
        search = re.compile(pattern).search
        witness = next((name for name in names if search(name)), None)
        if witness is not None:
            return description, witness
    return None
