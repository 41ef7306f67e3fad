"""Factors reproduce a change as well as they say, under the names that loaders look for."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from erasepro_convert.manifest.safetensors_metadata import lora_metadata
from erasepro_convert.output.lora import Factors, factorise, largest_rank, lora_file, loss_of
from erasepro_convert.output.safetensors_writer import stream
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1 import key_value_matrices, text_attention
from erasepro_convert.sd1.architecture import architecture_of
from erasepro_convert.sd1.keys import SD1, TEXT, TEXT_LAYERS, UNET, text_keys
from erasepro_convert.sd1.kohya import kohya_names
from erasepro_convert.sd1.spelling import ALL_TENSORS
from erasepro_convert.sd1.unet import unet_keys
from tests.conftest import SHORT

ROWS, COLUMNS = 48, 96
FITS = ROWS * COLUMNS // (ROWS + COLUMNS)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
EDITED = (
    *(name for layer in range(1, TEXT_LAYERS + 1) for name in text_attention(layer).values()),
    *key_value_matrices(),
)


def changed(dtype: torch.dtype, rank: int, size: float = 0.3) -> tuple[Tensor, Tensor]:
    """A matrix, and the same with a change of some rank, both stored in a type."""
    generator = torch.Generator().manual_seed(rank)
    original = torch.randn(ROWS, COLUMNS, generator=generator).to(dtype)
    up = torch.randn(ROWS, rank, generator=generator, dtype=torch.float64)
    change = up @ torch.randn(rank, COLUMNS, generator=generator, dtype=torch.float64)
    change *= size * original.double().norm() / change.norm()
    return original, (original.double() + change).to(dtype)


def added(pair: Factors) -> np.ndarray:
    """What a loader adds, in numpy's float64."""
    up, down = (factor.double().numpy() for factor in (pair.up, pair.down))
    return np.asarray(pair.alpha / len(down) * up @ down)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_a_rank_that_fits_is_met_to_rounding(dtype: torch.dtype) -> None:
    original, stored = changed(dtype, 5)
    pair = factorise(original, stored, FITS)
    assert pair.rank == 5
    assert pair.up.dtype == pair.down.dtype == dtype
    difference = (stored.double() - original.double()).numpy()
    error = np.linalg.norm(added(pair) - difference)
    assert error <= torch.finfo(dtype).eps / 2 * np.linalg.norm(stored.double().numpy())
    assert pair.is_exact
    assert pair.error == pytest.approx(error, rel=1e-9)
    assert pair.norm == pytest.approx(np.linalg.norm(difference), rel=1e-12)


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_a_limit_leaves_out_the_smallest_singular_values(limit: int) -> None:
    original, stored = changed(torch.float32, 20)
    pair = factorise(original, stored, FITS, limit)
    singular = np.linalg.svd((stored.double() - original.double()).numpy(), compute_uv=False)
    assert pair.rank == limit
    assert not pair.is_exact
    assert pair.error == pytest.approx(np.linalg.norm(singular[limit:]), rel=1e-6)


def test_factors_are_never_larger_than_the_matrix() -> None:
    original, stored = changed(torch.float32, ROWS)
    pair = factorise(original, stored, FITS, 1000)
    assert pair.rank == FITS == 32
    assert pair.up.numel() + pair.down.numel() <= original.numel()
    assert not pair.is_exact
    assert largest_rank((320, 768), None) == 225
    assert largest_rank((320, 768), 128) == largest_rank((768, 768), 128) == 128
    assert largest_rank((2, 1), None) == 1  # a pair has a rank


def test_what_is_lost_in_rounding_all_the_same_has_a_pair_of_rank_one() -> None:
    original = torch.ones(ROWS, COLUMNS, dtype=torch.float16)
    stored = original.clone()
    stored[0, 0] = 1 + torch.finfo(torch.float16).eps
    pair = factorise(original, stored, FITS)
    assert pair.rank == 1
    assert pair.is_exact


def test_float64_becomes_float32_which_loaders_know() -> None:
    pair = factorise(*changed(torch.float64, 4), FITS)
    assert pair.up.dtype == torch.float32
    assert (pair.rank, pair.is_exact) == (4, True)


def test_the_loss_is_that_of_the_worst_matrix_and_of_all() -> None:
    names = EDITED[0], EDITED[-1], EDITED[5]
    limits = None, 4, 8
    factors = {
        name: factorise(*changed(torch.float16, 10, size), FITS, limit)
        for name, limit, size in zip(names, limits, (0.3, 0.1, 0.2), strict=True)
    }
    loss = loss_of(factors)
    assert (loss.matrices, loss.exact, loss.rank) == (3, 1, 10)
    assert loss.worst_matrix == names[1]
    assert loss.worst == factors[names[1]].error / factors[names[1]].norm
    errors, norms = ([getattr(f, part) for f in factors.values()] for part in ("error", "norm"))
    assert loss.overall == pytest.approx(math.hypot(*errors) / math.hypot(*norms))


def test_a_file_has_one_alpha_and_gives_the_changes_to_whoever_reads_it(tmp_path: Path) -> None:
    pairs = {name: changed(torch.float16, rank) for name, rank in ((EDITED[0], 3), (EDITED[40], 7))}
    factors = {name: factorise(*pair, FITS) for name, pair in pairs.items()}
    path = tmp_path / "lora.safetensors"
    with path.open("wb") as file:
        stream(lora_file(factors, {"format": "pt"}), file, lambda done, total: None)
    tensors = load_file(path)
    assert {float(tensors[n]) for n in tensors if n.endswith(".alpha")} == {FITS}
    for name, (original, stored) in pairs.items():
        module = kohya_names()[name]
        up, down = (tensors[f"{module}.lora_{part}.weight"].double() for part in ("up", "down"))
        product = float(tensors[f"{module}.alpha"]) / len(down) * up @ down
        error = (product - (stored.double() - original.double())).norm()
        assert float(error) == pytest.approx(factors[name].error, rel=1e-9)
    inert = kohya_names()[f"{TEXT}encoder.layers.0.self_attn.out_proj.weight"]
    others = {
        name for name in tensors if name.split(".")[0] not in {kohya_names()[n] for n in pairs}
    }
    assert others == {f"{inert}.{p}" for p in ("alpha", "lora_up.weight", "lora_down.weight")}
    assert not tensors[f"{inert}.lora_up.weight"].any()


@pytest.mark.parametrize(("ranks", "shown"), [({7}, "7"), ({3, 7}, "Dynamic")])
def test_ranks_that_differ_are_said_as_sd_scripts_say_it(
    ranks: set[int], shown: str, make_recipe: Callable[[str], Recipe]
) -> None:
    loss = loss_of({EDITED[0]: factorise(*changed(torch.float16, 3), FITS)})
    recipe = make_recipe(SHORT)
    metadata = lora_metadata(
        recipe, "v", "a.ckpt", None, loss, ranks=ranks, alphas={FITS}, private=False
    )
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == (shown, str(FITS))
    assert metadata["modelspec.title"] == "a, erased: van-gogh (LoRA)"
    assert "ss_new_sd_model_hash" not in metadata


def test_a_file_without_the_text_encoder_has_nothing_of_it() -> None:
    factors = {EDITED[40]: factorise(*changed(torch.float16, 3), FITS)}
    assert all(t.name.startswith("lora_unet_") for t in lora_file(factors, {}).tensors)


def test_every_edited_matrix_has_the_name_that_loaders_build() -> None:
    """kohya's, ComfyUI's and A1111's loaders build it of diffusers' module names.

    This is our own writing of the rule in ComfyUI's ``model_lora_keys_unet`` and
    ``model_lora_keys_clip`` (comfy/lora.py), whose code is GPL: the loader itself is tested in
    ``tests/integrations/test_comfyui_source.py``, where its source is on this machine.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture_of(SD1).unet())
    linear = [n for n, module in unet.named_modules() if isinstance(module, torch.nn.Linear)]
    built = {"lora_unet_" + name.replace(".", "_") for name in linear}
    built |= {
        f"lora_te_text_model_encoder_layers_{layer}_self_attn_{part}_proj"
        for layer in range(TEXT_LAYERS)
        for part in ("q", "k", "v", "out")
    }
    names = [kohya_names()[name] for name in EDITED]
    assert len(set(names)) == 68
    assert set(names) <= built
    assert (
        kohya_names()[f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"]
        == "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    )


def test_only_matrices_have_names() -> None:
    keys = {key.original: key for key in (*unet_keys(ALL_TENSORS), *text_keys(ALL_TENSORS))}
    assert kohya_names().keys() <= keys.keys()
    assert all(len(keys[n].shape) == 2 and n.endswith(".weight") for n in kohya_names())
