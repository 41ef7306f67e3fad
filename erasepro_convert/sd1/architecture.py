"""What a checkpoint's tensors do not tell: groups of norms, image size, sampling settings.

diffusers reads them from the configuration files in a model's folder.  A single file has none, so
they stand here, for SD1.x and for the demo model.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from erasepro_convert.errors import CheckpointError
from erasepro_convert.sd1.keys import (
    BOS,
    EOS,
    POSITIONS,
    SD1,
    TEXT_HEADS,
    TEXT_LAYERS,
    VOCABULARY,
    Widths,
)

Sampler = Literal["ddpm", "dpm++"]

LEVELS = 4
"""Resolutions in the VAE."""
DEMO = Widths((48, 96, 128, 128), 192, 4, (16, 32, 64, 64), 96, 384)
"""The widths of the demo model."""

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Architecture:
    """A model's configuration beside its widths, and sampling settings that suit it.

    ``size`` is the side of an image in pixels; ``steps`` and ``guidance`` go to the sampler;
    ``batch`` is the number of images made at once; ``others`` are prompts without any target.  An
    evaluation generates with ``evaluation_sampler`` in ``evaluation_steps``; for SD1.x these are
    the settings of the paper's App. A.2.
    """

    widths: Widths
    unet_groups: int
    vae_groups: int
    size: int
    steps: int
    guidance: float
    batch: int
    others: tuple[str, ...]
    evaluation_steps: int = 50
    evaluation_sampler: Sampler = "ddpm"

    def unet(self) -> dict[str, Any]:
        """Return the configuration of diffusers' UNet2DConditionModel."""
        return {
            "sample_size": self.size // 8,
            "in_channels": self.widths.in_channels,
            "block_out_channels": self.widths.unet,
            "cross_attention_dim": self.widths.text,
            "attention_head_dim": 8,
            "norm_num_groups": self.unet_groups,
            "time_cond_proj_dim": self.widths.guidance or None,
        }

    def vae(self) -> dict[str, Any]:
        """Return the configuration of diffusers' AutoencoderKL."""
        return {
            "sample_size": self.size,
            "block_out_channels": self.widths.vae,
            "norm_num_groups": self.vae_groups,
            "down_block_types": ("DownEncoderBlock2D",) * LEVELS,
            "up_block_types": ("UpDecoderBlock2D",) * LEVELS,
            "layers_per_block": 2,
            "latent_channels": 4,
        }

    def text_encoder(self) -> dict[str, Any]:
        """Return the configuration of transformers' CLIPTextModel."""
        return {
            "hidden_size": self.widths.text,
            "intermediate_size": self.widths.mlp,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": TEXT_HEADS,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": POSITIONS,
            "hidden_act": "quick_gelu",
            "projection_dim": self.widths.text,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": 1,
        }


ARCHITECTURES = (
    Architecture(
        SD1, unet_groups=32, vae_groups=32, size=512, steps=25, guidance=7.5, batch=1,
        others=(
            "a photo of a mountain lake at sunrise",
            "a red bicycle leaning against a wall",
            "portrait of an old woman smiling",
            "a bowl of fruit on a wooden table",
        ),
    ),
    Architecture(
        DEMO, unet_groups=16, vae_groups=8, size=64, steps=25, guidance=4.0, batch=64,
        others=(
            "a photo of a blue car in the snow",
            "a mushroom by Mondrian",
            "a house on fire",
            "ice cream cone at night",
        ),
        evaluation_steps=20, evaluation_sampler="dpm++",
    ),
)  # fmt: skip


def architecture_of(widths: Widths) -> Architecture:
    """Find the architecture of a checkpoint with these widths.

    Input channels, a missing VAE and a guidance embedding may differ from the known widths.

    Raises CheckpointError for widths that are neither SD1.x's nor the demo model's.
    """
    for known in ARCHITECTURES:
        vae = known.widths.vae if any(widths.vae) else widths.vae
        base = replace(known.widths, in_channels=widths.in_channels, vae=vae)
        if replace(base, guidance=widths.guidance) == widths:
            return replace(known, widths=widths)
    raise CheckpointError(
        f"diffusers' configuration is known for SD1.x's own widths and the demo model's, not for "
        f"U-Net widths {'/'.join(map(str, widths.unet))}"
    )
