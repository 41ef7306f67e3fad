"""Our output in diffusers: it loads offline, whole, with the weights that we wrote."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from erasepro_convert.convert import Options, convert
from erasepro_convert.layout.keys import Key, text_keys
from erasepro_convert.layout.unet import unet_keys
from erasepro_convert.layout.vae import vae_keys
from erasepro_convert.recipe import load_recipe
from tests import pipeline
from tests.miniature import MINIATURE


@pytest.fixture
def output(van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> Path:
    target = tmp_path / "out.safetensors"
    convert(load_recipe(van_gogh), checkpoint_file, target, Options(), lambda *_: None)
    return target


@pytest.mark.filterwarnings("ignore")  # diffusers' and transformers' own, about themselves
def test_from_single_file_has_every_tensor(output: Path, tmp_path: Path) -> None:
    """No meta tensor, none missing, each equal to the tensor that the key table pairs it with."""
    pipeline.write_configs(tmp_path / "configs", MINIATURE)
    loaded = pipeline.load(output, tmp_path / "configs")
    written = load_file(output)
    assert_equal(loaded.unet, list(unet_keys(MINIATURE)), written)
    assert_equal(loaded.vae, list(vae_keys(MINIATURE)), written)
    assert_equal(loaded.text_encoder, list(text_keys(MINIATURE)), written)
    image = loaded(
        "a painting by Van Gogh", num_inference_steps=1, height=64, width=64, output_type="np"
    ).images
    assert image.shape == (1, 64, 64, 3)


def assert_equal(model: torch.nn.Module, keys: list[Key], written: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    prefix = "" if any(name.startswith("text_model.") for name in state) else "text_model."
    seen = 0
    for key in keys:
        name = key.diffusers if key.diffusers in state else key.diffusers.removeprefix(prefix)
        assert not state[name].is_meta
        assert torch.equal(state[name].flatten().float(), written[key.original].flatten())
        seen += 1
    extra = {name for name in state if "position_ids" not in name}
    assert seen == len(extra)
