"""Names for what is not a whole SD1.x checkpoint, so that a refusal can say what the file is."""

from collections.abc import Collection

OTHER_MODELS = (
    # (a prefix that tells the model, what it is), most telling first
    ("depth_model.", "a Stable Diffusion 2 depth model"),
    ("cond_stage_model.model.", "Stable Diffusion 2.x (OpenCLIP text encoder)"),
    ("cond_stage_model.roberta.", "AltDiffusion (RoBERTa text encoder)"),
    ("conditioner.embedders.1.", "SDXL"),
    ("conditioner.embedders.0.", "the SDXL refiner"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.double_blocks.", "Flux"),
    ("double_blocks.", "Flux"),
)

PARTS = (
    ("lora_", "a LoRA, not a checkpoint"),
    ("control_model.", "a ControlNet, not a checkpoint"),
    ("down_blocks.", "a diffusers U-Net alone"),
    ("text_model.", "a text encoder alone"),
    ("cond_stage_model.", "a text encoder alone"),
    ("first_stage_model.", "an autoencoder (VAE) alone"),
    ("decoder.", "an autoencoder (VAE) alone"),
    ("string_to_param", "a textual-inversion embedding"),
    ("emb_params", "a textual-inversion embedding"),
)


def name_other_model(names: Collection[str]) -> str | None:
    """Which other model this is, with the evidence; None if it is none that we know."""
    return _name(names, OTHER_MODELS)


def name_part(names: Collection[str]) -> str | None:
    """What a file without a U-Net is, with the evidence; None if unknown."""
    return _name(names, PARTS)


def _name(names: Collection[str], signatures: tuple[tuple[str, str], ...]) -> str | None:
    for prefix, model in signatures:
        witness = next((name for name in names if name.startswith(prefix)), None)
        if witness is not None:
            return f"this is {model} (it holds {witness})"
    return None
