"""An erasure in memory: the weights of the file that ``convert`` writes, and nothing changed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert import convert, erase_state_dict, load_recipe, recipe_from_yaml, verdict
from erasepro_convert.errors import CheckpointError, LimitError, RecipeError
from tests.conftest import VAN_GOGH
from tests.miniature import State, components, state_dict

RECIPE = recipe_from_yaml(VAN_GOGH)
TRAINED = recipe_from_yaml(VAN_GOGH.replace("version: 1", "version: 1\nmethod: esd-x"))


def without_vae(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("first_stage")}


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_weights_are_those_of_the_file(dtype: str, tmp_path: Path) -> None:
    state = state_dict(dtype=dtype)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in state.items()}
    save_file(state, tmp_path / "in.safetensors")
    manifest = convert(RECIPE, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    output = load_file(tmp_path / "out.safetensors")
    erased = erase_state_dict(RECIPE, without_vae(state))
    assert set(erased.weights) == {edit.name for edit in manifest.edits}
    assert all(is_same(weight, output[name]) for name, weight in erased.weights.items())
    assert erased.probe == manifest.probe
    assert erased.checks == verdict(manifest).checks
    assert erased.recipe == manifest.recipe
    assert all(is_same(value, state[name]) for name, value in before.items())


@pytest.mark.slow
def test_names_are_those_that_were_given(state: State) -> None:
    parts = components(state)
    diffusers = {
        f"{part}.{name}": tensor
        for part in ("unet", "text_encoder")
        for name, tensor in parts[part].items()
    }
    erased = erase_state_dict(RECIPE, diffusers)
    original = erase_state_dict(RECIPE, without_vae(state))
    assert set(erased.weights) < set(diffusers)
    weights = zip(erased.weights.values(), original.weights.values(), strict=True)
    assert all(is_same(*pair) for pair in weights)


@pytest.mark.slow
def test_what_is_computed_without_gradients_can_be_trained_on(state: State) -> None:
    erased = erase_state_dict(RECIPE, state)
    assert not any(weight.is_inference() for weight in erased.weights.values())


@pytest.mark.slow
def test_a_result_that_does_not_hold_is_refused(state: State) -> None:
    recipe = recipe_from_yaml(VAN_GOGH.replace("leak: null", "leak: 0.001"))
    words = "the result does not hold:\n- leak is above the limit"
    with pytest.raises(LimitError, match=words) as refused:
        erase_state_dict(recipe, state)
    assert refused.value.verdict
    assert not refused.value.verdict.held


def test_what_is_no_model_is_refused(state: State) -> None:
    with pytest.raises(CheckpointError, match=r"not a Stable Diffusion 1\.x .*mlp\.fc1"):
        erase_state_dict(RECIPE, {n: v for n, v in state.items() if "mlp.fc1" not in n})


@pytest.mark.parametrize(
    "name",
    [
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
    ],
)
def test_weights_that_are_not_finite_are_refused_by_name(name: str, state: State) -> None:
    damaged = {**state, name: torch.full_like(state[name], torch.inf)}
    with pytest.raises(CheckpointError, match=rf"{name} holds NaN or infinite values"):
        erase_state_dict(RECIPE, damaged)


def test_a_trained_method_needs_the_file(state: State) -> None:
    with pytest.raises(RecipeError, match=r"esd-x is trained, .*: convert the checkpoint's file"):
        erase_state_dict(TRAINED, state)


def test_a_recipe_in_text_is_that_of_a_file(van_gogh: Path) -> None:
    assert recipe_from_yaml(van_gogh.read_text()) == load_recipe(van_gogh)


def test_mistakes_in_text_have_their_line() -> None:
    with pytest.raises(RecipeError, match=r"^recipe\.yaml:2: "):
        recipe_from_yaml("version: 1\nconcept: dog\n")
