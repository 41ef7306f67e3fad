"""The key table: every tensor of an SD1.x checkpoint, in both spellings, with its shape.

The table is generated from block indices and the widths of the model, so a narrower model with
SD1.x's topology gets the same names.  Original names are CompVis' (what single files use),
diffusers names those of its three components' state dicts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from erasepro_convert.checkpoint.tensor_info import Shape

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
EMA = "model_ema."
"""Prefixes of the names of a single file's U-Net, VAE, text encoder and EMA copy of the U-Net."""
EMA_COUNTERS = (EMA + "decay", EMA + "num_updates")

TEXT_LAYERS = 12
TEXT_HEADS = 12
POSITIONS = 77
"""Tokens in a prompt, padding included."""
VOCABULARY = 49408
BOS, EOS = VOCABULARY - 2, VOCABULARY - 1
"""The ids of CLIP's two control tokens."""
FIRST_CONVOLUTION = UNET + "input_blocks.0.0.weight"
GUIDANCE_EMBEDDING = UNET + "time_embed.cond_proj.weight"
"""The weight by which a latent consistency model (LCM) reads the guidance scale; other U-Nets lack
it."""
TOKEN_EMBEDDING = TEXT + "embeddings.token_embedding.weight"
POSITION_EMBEDDING = TEXT + "embeddings.position_embedding.weight"
POSITION_IDS = TEXT + "embeddings.position_ids"

UNET_BLOCKS = ("down.0", "down.1", "down.2", "mid", "up.1", "up.2", "up.3")
"""The U-Net blocks with cross-attention, in the order of the forward pass, as recipes name them."""

SCHEDULE_STEPS = 1000
"""Timesteps of the noise schedule, whose buffers some files carry."""
SCHEDULE_BUFFERS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
V_PREDICTION, ZERO_SNR = "v_pred", "ztsnr"
PREDICTION_MARKERS = (V_PREDICTION, ZERO_SNR)
"""Zero-size tensors that tell loaders how the U-Net was trained."""


@dataclass(frozen=True)
class Widths:
    """Channel counts of one model.

    ``unet`` and ``vae`` hold the width of each of the four levels, shallow to deep; ``time`` is
    the width of the timestep embedding; ``in_channels`` is 4, or 9 (inpainting), or 8
    (instruct-pix2pix); ``text`` and ``mlp`` are the text encoder's hidden and MLP widths;
    ``guidance`` is the width in which a latent consistency model gets its guidance scale, 0 for
    every other U-Net.
    """

    unet: tuple[int, int, int, int]
    time: int
    in_channels: int
    vae: tuple[int, int, int, int]
    text: int
    mlp: int
    guidance: int = 0


SD1 = Widths((320, 640, 1280, 1280), 1280, 4, (128, 256, 512, 512), 768, 3072)
"""The widths of SD1.x itself."""


@dataclass(frozen=True)
class Key:
    """One tensor: its original name, its name in diffusers' component, its shape."""

    original: str
    diffusers: str
    shape: Shape


def text_attention(layer: int) -> dict[str, str]:
    """Original names of the q, k, v weights of text-encoder layer ``layer`` (1-based)."""
    prefix = f"{TEXT}encoder.layers.{layer - 1}.self_attn."
    return {part: f"{prefix}{part}_proj.weight" for part in "qkv"}


def affine(original: str, diffusers: str, shape: Shape) -> Iterator[Key]:
    """Give the keys of a weight of ``shape`` and of its bias (one value for each output)."""
    yield Key(f"{original}.weight", f"{diffusers}.weight", shape)
    yield Key(f"{original}.bias", f"{diffusers}.bias", shape[:1])


def text_keys(w: Widths) -> Iterator[Key]:
    """Give the 196 parameters of the CLIP text encoder; ``position_ids`` is none of them."""

    def module(name: str, shape: Shape) -> Iterator[Key]:
        return affine(TEXT + name, "text_model." + name, shape)

    for name, rows in (("token", VOCABULARY), ("position", POSITIONS)):
        path = f"embeddings.{name}_embedding.weight"
        yield Key(TEXT + path, "text_model." + path, (rows, w.text))
    for i in range(TEXT_LAYERS):
        for part in ("q", "k", "v", "out"):
            yield from module(f"encoder.layers.{i}.self_attn.{part}_proj", (w.text, w.text))
        for norm in ("layer_norm1", "layer_norm2"):
            yield from module(f"encoder.layers.{i}.{norm}", (w.text,))
        yield from module(f"encoder.layers.{i}.mlp.fc1", (w.mlp, w.text))
        yield from module(f"encoder.layers.{i}.mlp.fc2", (w.text, w.mlp))
    yield from module("final_layer_norm", (w.text,))
