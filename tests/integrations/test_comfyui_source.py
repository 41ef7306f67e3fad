"""ComfyUI's own loader takes the LoRA, and its own model the nodes, where its source is here."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from erasepro_convert import demo
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from tests.integrations.comfyui import MODULE, load_nodes
from tests.integrations.comfyui_source import TEXT, UNET, import_comfyui, loaded, named_as_in_files
from tests.miniature import State

pytestmark = pytest.mark.slow
RECIPE = Path("recipes/demo/snoopy.yaml")


@pytest.fixture
def comfy() -> SimpleNamespace:
    return import_comfyui()


def distance(one: State, other: State, part: str) -> float:
    """The norm of the difference of all tensors of a part, in float64."""
    squares = (
        float((one[name].double() - other[name].double()).square().sum())
        for name in one
        if name.startswith(part)
    )
    return math.sqrt(sum(squares))


@pytest.mark.parametrize("limit", [None, 4])
def test_original_and_lora_have_the_weights_of_the_whole_file(
    limit: int | None, comfy: SimpleNamespace, tmp_path: Path
) -> None:
    target, lora = tmp_path / "out.safetensors", tmp_path / "lora.safetensors"
    with demo.checkpoint() as file:
        manifest = convert(RECIPE, file, target, Options(lora=lora, lora_rank=limit))
        original = load_file(file)
    whole = load_file(target)
    pair = loaded(comfy, original)
    before = named_as_in_files(*pair)
    patched = comfy.sd.load_lora_for_models(*pair, load_file(lora), 1.0, 1.0)
    found = named_as_in_files(*patched)
    assert found.keys() == before.keys()
    assert manifest.lora
    loss = manifest.lora.loss
    assert len(patched[0].patches) + len(patched[1].patcher.patches) == loss.matrices + 1  # inert
    lost, changed = (distance(one, whole, "") for one in (found, before))
    assert lost / changed == pytest.approx(loss.overall, rel=0.05)
    for part in (UNET, TEXT):
        assert distance(before, whole, part) > 0
        assert distance(found, whole, part) <= 1.5 * loss.worst * distance(before, whole, part)


def test_the_nodes_weights_are_those_of_the_file(comfy: SimpleNamespace, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    with demo.checkpoint() as file:
        convert(RECIPE, file, target)
        original = load_file(file)
    pair = loaded(comfy, original)
    before = named_as_in_files(*pair)
    try:
        node = load_nodes().NODE_CLASS_MAPPINGS["EraseproEraseConcepts"]()
        with torch.inference_mode():  # as ComfyUI runs every node
            model, clip, _ = node.run(*pair, "as in yaml", RECIPE.read_text("utf-8"), 1.0)
    finally:
        for name in [name for name in sys.modules if name.startswith(MODULE)]:
            del sys.modules[name]
    found, whole = named_as_in_files(model, clip), load_file(target)
    assert len(found) == 882  # the whole U-Net and text encoder
    assert all(torch.equal(found[name], whole[name]) for name in found)
    assert any(not torch.equal(before[name], whole[name]) for name in found)
    after = named_as_in_files(*pair)
    assert all(torch.equal(after[name], before[name]) for name in before)
