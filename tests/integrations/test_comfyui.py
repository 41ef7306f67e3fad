"""The nodes for ComfyUI, on a stand-in for its code: see ``tests.integrations.comfyui``."""

import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert import (
    __version__,
    convert,
    erase_state_dict,
    recipe_from_yaml,
    verdict,
    verify,
)
from erasepro_convert.errors import CheckpointError, LimitError, RecipeError
from tests.conftest import SHORT, VAN_GOGH, copy_of_demo
from tests.integrations.comfyui import (
    MODULE,
    PACKAGE,
    ComfyUI,
    Interrupted,
    load_nodes,
    loaded,
    named_as_in_files,
)
from tests.miniature import State, state_dict

FROM_YAML = "as in yaml"
NO_LIMITS = SHORT + "limits: {leak: null, drift: null, relative_update: null}\n"
KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComfyUI:
    stand_in = ComfyUI(tmp_path / "output")
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return stand_in


@pytest.fixture
def nodes(comfyui: ComfyUI) -> Iterator[dict[str, Any]]:
    before = set(sys.modules)
    yield load_nodes().NODE_CLASS_MAPPINGS
    for name in set(sys.modules) - before:
        if name.startswith(MODULE):
            del sys.modules[name]


@pytest.fixture
def erase(nodes: dict[str, Any]) -> Callable[..., Any]:
    def run(model: object, clip: object, recipe: str = VAN_GOGH, strength: float = 1.0) -> Any:
        node = nodes["EraseproEraseConcepts"]()
        with torch.inference_mode():  # as ComfyUI runs every node
            return node.run(model, clip, FROM_YAML, recipe, strength)

    return run


@pytest.fixture
def save(nodes: dict[str, Any]) -> Callable[..., Any]:
    def run(name: str, recipe: str = VAN_GOGH, prefix: str = "checkpoints/erased") -> Any:
        with torch.inference_mode():
            return nodes["EraseproSaveErasedCheckpoint"]().run(name, FROM_YAML, recipe, 1.0, prefix)

    return run


def same(one: State, other: State) -> bool:
    """Whether the tensors that both have are the same, bit for bit."""
    return all(torch.equal(one[name], other[name]) for name in one.keys() & other.keys())


def test_they_are_declared_as_comfyui_reads_them(nodes: dict[str, Any], comfyui: ComfyUI) -> None:
    comfyui.checkpoints["a.safetensors"] = Path("a.safetensors")
    package = sys.modules[MODULE]
    assert set(nodes) == set(package.NODE_DISPLAY_NAME_MAPPINGS)
    for node in nodes.values():
        inputs = node.INPUT_TYPES()["required"]
        parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
        assert [*parameters][1:] == [*inputs]
        assert {*inspect.signature(node.VALIDATE_INPUTS).parameters} <= {*inputs}
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        assert node.CATEGORY
        assert node.DESCRIPTION
        assert node.VALIDATE_INPUTS(FROM_YAML, inputs["yaml"][1]["default"]) is True
    assert inputs["ckpt_name"][0] == ["a.safetensors"]


def test_the_registry_is_told_the_version_of_the_package() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert project["dependencies"] == [f"erasepro-convert=={__version__}"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_the_weights_are_those_of_the_file(
    dtype: Any, erase: Callable[..., Any], comfyui: ComfyUI, tmp_path: Path
) -> None:
    state = state_dict(dtype=dtype)
    save_file(state, tmp_path / "in.safetensors")
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    manifest = convert(recipe_from_yaml(VAN_GOGH), source, target)
    model, clip = loaded(state)
    erased_model, erased_clip, measures = erase(model, clip)
    written = load_file(target)
    erased = named_as_in_files(erased_model, erased_clip)
    assert same(erased, written)
    assert len(erased.keys() & written.keys()) == 882  # the whole U-Net and text encoder
    assert not same(erased, state)
    assert same(named_as_in_files(model, clip), state)
    assert measures.splitlines() == [f"– {check.what}" for check in verdict(manifest).checks]
    assert comfyui.shown[-1] == (1, 1)


@pytest.mark.slow
def test_a_lora_before_is_erased_too_and_one_behind_acts_on_what_is_erased(
    erase: Callable[..., Any],
) -> None:
    state = state_dict(dtype="fp16")
    model, clip = loaded(state)
    lora = {KEY: (0.1 * torch.randn(model.weights[KEY].shape),)}
    model.add_patches(lora, 0.5)
    merged = named_as_in_files(model, clip)
    expected = erase_state_dict(recipe_from_yaml(VAN_GOGH), merged).weights[f"model.{KEY}"]
    erased, _, _ = erase(model, clip)
    assert torch.equal(erased.loaded()[KEY], expected)
    erased.add_patches(lora, 2.0)
    behind = (expected.float() + 2 * lora[KEY][0]).half()
    assert torch.equal(erased.loaded()[KEY], behind)


@pytest.mark.slow
def test_two_in_a_row_are_two_conversions(erase: Callable[..., Any], state: State) -> None:
    monet = VAN_GOGH.replace("Van Gogh", "Monet")
    model, clip, _ = erase(*loaded(state))
    first = named_as_in_files(model, clip)
    second = first | dict(erase_state_dict(recipe_from_yaml(monet), first).weights)
    model, clip, _ = erase(model, clip, monet)
    assert same(named_as_in_files(model, clip), second)


@pytest.mark.slow
def test_strength_is_a_factor_on_the_recipes(erase: Callable[..., Any], state: State) -> None:
    recipe = NO_LIMITS + "tokens: prompt\nretain: {weight: 0}\nstrength: "
    three, _, _ = erase(*loaded(state), recipe + "3\n")
    twice, _, _ = erase(*loaded(state), recipe + "1.5\n", 2.0)
    assert same(three.loaded(), twice.loaded())


def test_mistakes_show_before_anything_runs(nodes: dict[str, Any]) -> None:
    check = nodes["EraseproEraseConcepts"].VALIDATE_INPUTS
    assert check(FROM_YAML, VAN_GOGH) is True
    assert check(FROM_YAML, None) is True  # another node gives it
    assert check("nudity", "") is True
    assert check(FROM_YAML, "version: 1\nconcept: dog\n").startswith("recipe.yaml:2: concept: ")


def test_recipes_of_the_library_and_of_the_user_have_names(
    nodes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "ours.yaml"
    own.write_text(VAN_GOGH)
    monkeypatch.setenv("ERASEPRO_RECIPES", str(tmp_path))
    for node in nodes.values():
        names = node.INPUT_TYPES()["required"]["recipe"][0]
        assert names[0] == FROM_YAML
        assert {"ours", "nudity", "van-gogh"} <= {*names}
        before = node.IS_CHANGED(recipe="ours", yaml="", model=None)
        own.write_text(VAN_GOGH.replace("artist", "painter"))
        assert node.IS_CHANGED(recipe="ours", yaml="", model=None) != before
        own.write_text(VAN_GOGH)
        assert node.IS_CHANGED(recipe=FROM_YAML, yaml=None) == ""  # another node gives it


def test_no_file_is_read_by_its_path(nodes: dict[str, Any], van_gogh: Path) -> None:
    check = nodes["EraseproEraseConcepts"].VALIDATE_INPUTS
    assert check(str(van_gogh), "") == f"there is no recipe {str(van_gogh)!r} here"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (VAN_GOGH, "strength 2: strength is for calibrated matrices"),
        (SHORT.replace("name:", "method: uce\nname:"), "strength 2: uce has a trade-off"),
    ],
)
def test_a_recipe_without_strength_takes_no_factor(
    recipe: str, words: str, erase: Callable[..., Any], state: State
) -> None:
    with pytest.raises(RecipeError, match=words):
        erase(*loaded(state), recipe, 2.0)


@pytest.mark.slow
def test_a_result_that_does_not_hold_is_said_in_the_commands_words(
    erase: Callable[..., Any], save: Callable[..., Any], comfyui: ComfyUI, checkpoint_file: Path
) -> None:
    comfyui.checkpoints["a"] = checkpoint_file
    strict = VAN_GOGH.replace("leak: null", "leak: 0.001")
    words = "the result does not hold:\n- leak is above the limit of 0.001: 'Van Gogh' "
    with pytest.raises(LimitError, match=words):
        erase(*loaded(load_file(checkpoint_file)), strict)
    with pytest.raises(LimitError, match=words):
        save("a", strict)
    assert not list(comfyui.output.rglob("*.*"))


def test_another_model_is_refused_by_its_name(erase: Callable[..., Any], state: State) -> None:
    model, clip = loaded(state)
    model.weights["diffusion_model.label_emb.0.0.weight"] = torch.zeros(1280, 2816)
    model.weights = {k: v for k, v in model.weights.items() if "input_blocks.1.1" not in k}
    with pytest.raises(CheckpointError, match="Stable Diffusion"):
        erase(model, clip)


def test_a_trained_method_is_for_the_file(erase: Callable[..., Any], state: State) -> None:
    trained = SHORT.replace("name:", "method: esd-x\nname:")
    with pytest.raises(RecipeError, match="convert the checkpoint's file"):
        erase(*loaded(state), trained)


@pytest.mark.slow
def test_what_is_saved_is_what_the_command_writes(
    save: Callable[..., Any], comfyui: ComfyUI, checkpoint_file: Path, tmp_path: Path
) -> None:
    comfyui.checkpoints["models/mini.safetensors"] = checkpoint_file
    result = save("models/mini.safetensors")
    written = comfyui.output / "checkpoints" / "erased_00001_.safetensors"
    file, measures = result["result"]
    assert file == str(written)
    assert result["ui"]["text"] == [f"checkpoints/erased_00001_.safetensors\n{measures}"]
    convert(recipe_from_yaml(VAN_GOGH), checkpoint_file, tmp_path / "out.safetensors")
    assert written.read_bytes() == (tmp_path / "out.safetensors").read_bytes()
    assert not verify(written, base=checkpoint_file).findings
    save("models/mini.safetensors")
    assert (comfyui.output / "checkpoints" / "erased_00002_.manifest.json").exists()


@pytest.mark.slow
def test_cancelling_leaves_nothing(
    erase: Callable[..., Any],
    save: Callable[..., Any],
    comfyui: ComfyUI,
    checkpoint_file: Path,
    state: State,
) -> None:
    comfyui.checkpoints["a"] = checkpoint_file
    comfyui.is_cancelled = lambda: len(comfyui.shown) > 3
    with pytest.raises(Interrupted):
        save("a")
    assert not list(comfyui.output.rglob("*.*"))
    model, clip = loaded(state)
    with pytest.raises(Interrupted):
        erase(model, clip)
    assert not model.patches


@pytest.mark.slow
def test_the_demo_model_loses_snoopy(erase: Callable[..., Any], tmp_path: Path) -> None:
    recipe = Path("recipes/demo/snoopy.yaml").read_text("utf-8")
    model, clip = loaded(load_file(copy_of_demo(tmp_path)))
    _, _, measures = erase(model, clip, recipe)
    assert re.match(r"✓ snoopy is erased: \d+% is left \(limit 50%\), ", measures)
