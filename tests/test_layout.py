"""The key table against diffusers, and the one decision what a checkpoint is."""

from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from erasepro_convert.architecture import architecture_of
from erasepro_convert.checkpoint.tensors import Region, TensorInfo, dense_stride
from erasepro_convert.dtypes import dtype_code
from erasepro_convert.errors import CheckpointError
from erasepro_convert.layout import identify
from erasepro_convert.layout.keys import SD1, Key, Widths, text_attention, text_keys
from erasepro_convert.layout.unet import cross_attentions, ema_name, unet_keys
from erasepro_convert.layout.vae import vae_keys
from tests import oracle
from tests.miniature import State, with_ema

TEXT = "cond_stage_model.transformer.text_model."
UNET = "model.diffusion_model."
REGION = Region(0, 0)


def describe(state: State) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            dtype_code(t.dtype), tuple(t.shape), dense_stride(tuple(t.shape)), 0, REGION
        )
        for name, t in state.items()
    }


@pytest.mark.parametrize(
    ("keys", "model", "count"),
    [
        (unet_keys, lambda: UNet2DConditionModel(**architecture_of(SD1).unet()), 686),
        (vae_keys, lambda: AutoencoderKL(**architecture_of(SD1).vae()), 248),
    ],
)
def test_diffusers_names_and_full_size_shapes(
    keys: Callable[[Widths], Iterator[Key]], model: Callable[[], torch.nn.Module], count: int
) -> None:
    """The table lists exactly the parameters of diffusers' own models, with their shapes."""
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in model().state_dict().items()}
    table = {key.diffusers: key.shape for key in keys(SD1)}
    if keys is vae_keys:  # diffusers keeps the attention's 1×1 convolutions as matrices
        table = {
            name: shape[:2] if ".attentions." in name else shape for name, shape in table.items()
        }
    assert table == expected
    assert len({key.original for key in keys(SD1)}) == count


def test_text_names_are_transformers(state: State) -> None:
    names = {key.diffusers for key in text_keys(SD1)}
    theirs = {
        "text_model." + name.removeprefix("text_model.")
        for name in oracle.text_model(state).state_dict()
    }
    assert names == theirs - {"text_model.embeddings.position_ids"}
    assert len(names) == 196


def test_the_edited_matrices_are_68() -> None:
    text = [name for layer in range(1, 13) for name in text_attention(layer).values()]
    unet = [name for a in cross_attentions() for name in (a.to_k, a.to_v)]
    assert len(set(text)) == 36
    assert sorted(unet) == sorted(oracle.kv_names())
    known = {key.original for keys in (unet_keys, text_keys) for key in keys(SD1)}
    assert known.issuperset(text + unet)


def test_ema_names_are_distinct() -> None:
    names = [ema_name(key.original) for key in unet_keys(SD1)]
    assert len(set(names)) == 686
    assert names[0].startswith("model_ema.diffusion_model")


def test_a_miniature_is_recognised(state: State) -> None:
    layout = identify(describe(state))
    assert layout.variant == "stable-diffusion-v1"
    assert dict(layout.source) == {name: name for name in state}
    assert layout.dropped == {}
    assert any("686" in line for line in layout.evidence)


@pytest.mark.parametrize(
    ("channels", "variant"),
    [(9, "stable-diffusion-v1-inpainting"), (8, "stable-diffusion-v1-instruct-pix2pix")],
)
def test_variants_by_input_channels(state: State, channels: int, variant: str) -> None:
    name = UNET + "input_blocks.0.0.weight"
    changed = {**state, name: torch.zeros(32, channels, 3, 3)}
    assert identify(describe(changed)).variant == variant
    changed[name] = torch.zeros(32, 5, 3, 3)
    with pytest.raises(CheckpointError, match="5 input channels"):
        identify(describe(changed))


def test_ema_and_strangers_are_dropped_with_a_reason(state: State) -> None:
    strangers = {
        "model_ema.nothing_of_ours": torch.zeros(1),
        "lora_te_text_model_encoder": torch.zeros(1),
        "cond_stage_model.logit_scale": torch.zeros(()),
        TEXT.replace("text_model.", "") + "final_layer_norm.weight": torch.zeros(48),
    }
    layout = identify(describe({**with_ema(state), **strangers}))
    reasons = layout.dropped
    assert len(reasons) == 686 + 2 + 4
    assert "bring the concept back" in reasons[ema_name(UNET + "out.2.bias")]
    assert "EMA" in reasons["model_ema.nothing_of_ours"]
    assert reasons["lora_te_text_model_encoder"] == "a LoRA inside the file"
    assert reasons["cond_stage_model.logit_scale"] == "no SD1.x loader reads it"
    assert "second copy" in reasons["cond_stage_model.transformer.final_layer_norm.weight"]
    assert set(layout.source) == set(state)


def test_the_old_spelling_is_renamed(state: State) -> None:
    old = {name.replace("transformer.text_model.", "transformer."): t for name, t in state.items()}
    layout = identify(describe(old))
    assert len(layout.renamed) == 197
    assert set(layout.source) == set(state)
    old[TEXT + "embeddings.position_ids"] = torch.arange(77)[None]
    assert identify(describe(old)).dropped == {
        TEXT.replace("text_model.", "")
        + "embeddings.position_ids": "second copy of the text encoder"
    }
    old[TEXT + "final_layer_norm.bias"] = old[
        TEXT.replace("text_model.", "") + "final_layer_norm.bias"
    ]
    with pytest.raises(CheckpointError, match="text encoder stands half under"):
        identify(describe(old))


def test_a_missing_vae_stays_missing(state: State) -> None:
    bare = {name: t for name, t in state.items() if not name.startswith("first_stage_model.")}
    layout = identify(describe(bare))
    assert set(layout.source) == set(bare)
    assert "VAE: none" in layout.evidence


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["cond_stage_model.model.ln_final.weight"], "Stable Diffusion 2.x"),
        (["depth_model.x", "cond_stage_model.model.ln_final.weight"], "Stable Diffusion 2 depth"),
        (["cond_stage_model.roberta.x", UNET + "out.2.bias"], "AltDiffusion"),
        (["conditioner.embedders.1.model.x", "conditioner.embedders.0.x"], "SDXL"),
        (["conditioner.embedders.0.model.x"], "the SDXL refiner"),
        (["model.diffusion_model.joint_blocks.0.x"], "Stable Diffusion 3"),
        (["double_blocks.0.x"], "Flux"),
        (["lora_unet_x"], "a LoRA"),
        (["control_model.x"], "a ControlNet"),
        (["unet.conv_in.weight"], "the text encoder is missing"),
        (["first_stage_model.x"], "VAE"),
        (["string_to_param"], "embedding"),
        ([UNET + "out.2.bias"], "the text encoder is missing"),
        (["strange"], "no U-Net"),
        ([], "no tensors at all"),
    ],
)
def test_other_models_are_refused_by_name(names: list[str], model: str) -> None:
    with pytest.raises(CheckpointError, match=model):
        identify({name: TensorInfo("F32", (1,), (1,), 0, REGION) for name in names})


def test_wrong_shapes_and_missing_tensors_are_named(state: State) -> None:
    name = UNET + "middle_block.1.proj_out.weight"
    with pytest.raises(CheckpointError, match=r"proj_out.weight has shape \[1\]"):
        identify(describe({**state, name: torch.zeros(1)}))
    rest = {key: value for key, value in state.items() if key != name}
    with pytest.raises(CheckpointError, match=f"1 of 1130 tensors are missing.*{name}"):
        identify(describe(rest))
    distilled = {k: v for k, v in state.items() if "middle_block" not in k}
    with pytest.raises(CheckpointError, match=r"15 of SD1\.x's 16 cross-attention blocks"):
        identify(describe(distilled))


@pytest.mark.parametrize(("width", "model"), [(1024, "Stable Diffusion 2"), (2048, "SDXL")])
def test_a_wide_context_is_named(width: int, model: str, state: State) -> None:
    """Also where the text encoder has that width too, as in a diffusers folder of SD2."""
    name = cross_attentions()[0].to_k
    wide = {**state, name: torch.zeros(32, width)}
    for norm in (state[TEXT + "final_layer_norm.weight"], torch.zeros(width)):
        with pytest.raises(CheckpointError, match=f"{width}.*{model}"):
            identify(describe({**wide, TEXT + "final_layer_norm.weight": norm}))


def test_quantised_weights_are_refused(state: State) -> None:
    name = UNET + "out.2.bias"
    with pytest.raises(CheckpointError, match="F8_E4M3: quantised"):
        identify(describe({**state, name: state[name].to(torch.float8_e4m3fn)}))
