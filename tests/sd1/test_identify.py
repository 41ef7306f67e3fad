"""The key table against diffusers, and the one decision what a checkpoint is."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from erasepro_convert.checkpoint.tensor_info import Region, TensorInfo, dense_stride
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import dtype_code
from erasepro_convert.sd1 import identify
from erasepro_convert.sd1.architecture import architecture_of
from erasepro_convert.sd1.keys import SD1, Key, Widths, text_attention, text_keys
from erasepro_convert.sd1.unet import cross_attentions, ema_name, unet_keys
from erasepro_convert.sd1.vae import vae_keys
from tests import oracle
from tests.miniature import State, with_ema

TEXT = "cond_stage_model.transformer.text_model."
UNET = "model.diffusion_model."
REGION = Region(0, 0)
LCM = replace(SD1, guidance=256)


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
        (unet_keys, lambda: UNet2DConditionModel(**architecture_of(LCM).unet()), 687),
        (vae_keys, lambda: AutoencoderKL(**architecture_of(SD1).vae()), 248),
    ],
)
def test_diffusers_names_and_full_size_shapes(
    keys: Callable[[Widths], Iterator[Key]], model: Callable[[], torch.nn.Module], count: int
) -> None:
    """The table lists exactly the parameters of diffusers' own models, with their shapes."""
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in model().state_dict().items()}
    widths = LCM if count == 687 else SD1
    table = {key.diffusers: key.shape for key in keys(widths)}
    if keys is vae_keys:  # diffusers keeps the attention's 1×1 convolutions as matrices
        table = {
            name: shape[:2] if ".attentions." in name else shape for name, shape in table.items()
        }
    assert table == expected
    assert len({key.original for key in keys(widths)}) == count


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
        "optimizer": torch.zeros(1),
        TEXT.replace("text_model.", "") + "final_layer_norm.weight": torch.zeros(48),
    }
    layout = identify(describe({**with_ema(state), **strangers}))
    reasons = layout.dropped
    assert len(reasons) == 686 + 2 + 5
    assert "bring the concept back" in reasons[ema_name(UNET + "out.2.bias")]
    assert "EMA" in reasons["model_ema.nothing_of_ours"]
    assert reasons["lora_te_text_model_encoder"] == "a LoRA inside the file"
    assert reasons["optimizer"] == "no SD1.x loader reads it"
    assert "which SD1.x has no use for" in reasons["cond_stage_model.logit_scale"]
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
        (["model.diffusion_model.double_blocks.0.x"], "Flux"),
        (["cc_projection.weight", UNET + "out.2.bias"], "Zero123"),
        (["lora_unet_x.lora_up.weight"], "a LoRA, not a checkpoint"),
        (["unet.down_blocks.0.attn1.processor.to_q_lora.down.weight"], "a LoRA, not"),
        (["unet.down_blocks.0.attn1.to_k.lora_A.weight"], "a LoRA as PEFT saves it"),
        (["base_model.model.down_blocks.0.attn1.to_k.lora_B.weight"], "a LoRA as PEFT saves it"),
        (["lora_unet_x.hada_w1_a"], "a LyCORIS network"),
        (["lora_unet_x.lokr_w1"], "a LyCORIS network"),
        (["control_model.x"], "a ControlNet"),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.x"], "a ControlNet"),
        (["input_blocks.0.0.weight", "input_hint_block.0.weight"], "a ControlNet"),
        (["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"], "a motion module"),
        (["ip_adapter.1.to_k_ip.weight", "image_proj.norm.weight"], "an IP-Adapter"),
        (["body.0.block1.weight", "conv_in.weight"], "a T2I-Adapter"),
        (["adapter.body.0.resnets.0.block1.weight"], "a T2I-Adapter"),
        (["model.1.sub.0.RDB1.conv1.0.weight"], "an upscaler"),
        (["conv_first.weight", "body.0.rdb1.conv1.weight"], "an upscaler"),
        (["down_blocks.0.resnets.0.norm1.weight"], "a diffusers U-Net alone"),
        (["input_blocks.0.0.weight"], "a U-Net"),
        (["text_model.final_layer_norm.weight"], "a text encoder alone"),
        (["vision_model.x", "text_model.x"], "a CLIP model"),
        (["vae.encoder.x"], "VAE"),
        (["encoder.down.0.x", "decoder.up.0.x"], "VAE"),
        (["emb_params"], "embedding"),
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


def test_an_embedding_is_told_by_its_width() -> None:
    """As diffusers saves it: one vector under the new word."""
    with pytest.raises(CheckpointError, match=r"textual-inversion embedding.*<my-cat>"):
        identify({"<my-cat>": TensorInfo("F32", (768,), (1,), 0, REGION)})


@pytest.mark.parametrize("code", ["U32", "U8"])
def test_packed_weights_are_quantised_whatever_their_shape(code: str, state: State) -> None:
    packed = describe(state)
    packed[cross_attentions()[0].to_k] = TensorInfo(code, (32, 6), (6, 1), 0, REGION)
    with pytest.raises(CheckpointError, match=f"is stored as {code}.*packs weights: quantised"):
        identify(packed)


U = UNET + "input_blocks.1.1.transformer_blocks.0."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (UNET + "something.weight", "its U-Net holds .*something.weight, which .*is unknown"),
        (U + "attn2.processor.to_k_ip.weight", "its U-Net .* an IP-Adapter built in"),
        (U + "attn1.to_q.lora_down.weight", "its U-Net .* a LoRA built in"),
        (U + "attn1.to_q.lora_A.default.weight", "its U-Net .* a LoRA as PEFT saves it built in"),
        (U + "fuser.linear.weight", "its U-Net .* GLIGEN's grounding layers built in"),
        (UNET + "position_net.linears.0.weight", "its U-Net .* GLIGEN"),
        (UNET + "input_blocks.1.2.temporal_transformer.norm.weight", "a motion module"),
        (UNET + "label_emb.0.0.weight", "its U-Net .* conditioned on a class"),
        (UNET + "input_hint_block.0.weight", "its U-Net .* a ControlNet built in"),
        (U + "attn1.to_q.scales", "its U-Net .* quantised as MLX does"),
        (UNET + "out.2.weight.absmax", "its U-Net .* quantised by bitsandbytes"),
        (UNET + "scaled_fp8", "its U-Net .* quantised to scaled 8-bit"),
        (TEXT + "encoder.layers.12.layer_norm1.weight", "its text encoder .*layers.12"),
        (TEXT + "embeddings.position_embedding_res.weight", "its text encoder .* Long-CLIP"),
        ("cond_stage_model.model.ln_final.weight", "its text encoder holds"),
        ("cond_stage_model.transformer.adapter.weight", "its text encoder holds"),
        ("first_stage_model.quantize.embedding.weight", "its VAE holds"),
        ("first_stage_model.decoder.conv_out.lora_up.weight", "its VAE .* a LoRA"),
    ],
)
def test_what_is_unknown_inside_a_part_is_refused_by_name(
    name: str, message: str, state: State
) -> None:
    """A loader that knows it uses it: without it the output would be another model."""
    with pytest.raises(CheckpointError, match=message):
        identify(describe({**state, name: torch.zeros(1)}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cond_stage_model.transformer.text_projection.weight", "comparison with pictures"),
        ("cond_stage_model.transformer.text_model.text_projection.weight", "comparison with"),
        ("cond_stage_model.transformer.logit_scale", "comparison with pictures"),
        ("cond_stage_model.transformer.vision_model.post_layernorm.weight", "half for pictures"),
        ("first_stage_model.loss.discriminator.main.0.weight", "training state of the VAE"),
        ("first_stage_model.model_ema.decay", "training state of the VAE"),
        ("model_ema.decay", "no copy of a U-Net tensor"),
        ("model_ema.diffusion_modelx", "no copy of a U-Net tensor"),
        ("unet.stray.weight", "no SD1.x loader reads it"),
    ],
)
def test_what_drawing_has_no_use_for_is_left_out_with_a_true_reason(
    name: str, reason: str, state: State
) -> None:
    (left_out,) = identify(describe({**state, name: torch.zeros(1)})).dropped.items()
    assert left_out[0] == name
    assert reason in left_out[1]


@pytest.mark.parametrize(
    "name",
    [UNET + "time_embed.cond_proj.weight", UNET + "time_embedding.cond_proj.weight"],
)
def test_the_guidance_embedding_of_an_lcm_is_carried(name: str, state: State) -> None:
    """In the original spelling, and in the one that diffusers' conversion script leaves."""
    layout = identify(describe({**state, name: torch.zeros(32, 256)}))
    assert layout.source[UNET + "time_embed.cond_proj.weight"] == name
    assert layout.widths.guidance == 256
    assert layout.dropped == {}
    assert any("LCM" in line for line in layout.evidence)
    with pytest.raises(CheckpointError, match=r"cond_proj.weight has shape \[8, 256\]"):
        identify(describe({**state, name: torch.zeros(8, 256)}))


def with_text(state: State, name: str, rows: int) -> State:
    return {**state, TEXT + name: torch.zeros(rows, 48)}


def test_text_encoders_that_hold_more_or_less_are_named(state: State) -> None:
    short = {name: t for name, t in state.items() if "encoder.layers.11." not in name}
    with pytest.raises(CheckpointError, match=r"first 11 of 12 layers.*clip skip"):
        identify(describe(short))
    one_missing = {n: t for n, t in state.items() if "encoder.layers.3.mlp.fc1.bias" not in n}
    with pytest.raises(CheckpointError, match=r"1 of 1130 tensors are missing.*layers\.3"):
        identify(describe(one_missing))
    words = with_text(state, "embeddings.token_embedding.weight", 49410)
    with pytest.raises(CheckpointError, match=r"49410 tokens, 2 more.*textual inversion"):
        identify(describe(words))
    long = with_text(state, "embeddings.position_embedding.weight", 248)
    with pytest.raises(CheckpointError, match=r"prompts of 248 tokens .Long-CLIP"):
        identify(describe(long))


def test_a_broken_unet_is_not_called_a_missing_text_encoder(state: State) -> None:
    name = UNET + "input_blocks.0.0.weight"
    broken = {key: value for key, value in state.items() if key != name}
    with pytest.raises(CheckpointError, match=f"its U-Net has no {name}"):
        identify(describe(broken))
