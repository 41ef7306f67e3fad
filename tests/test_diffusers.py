"""Our output in diffusers: it loads offline, whole, and makes the pictures that ours does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from erasepro_convert.convert import Options, convert
from erasepro_convert.demo import checkpoint
from erasepro_convert.diffusers_folder import write_configurations
from erasepro_convert.images.architecture import DEMO, Architecture, architecture_of
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.layout.keys import Key, text_keys
from erasepro_convert.layout.unet import unet_keys
from erasepro_convert.layout.vae import vae_keys
from erasepro_convert.recipe import load_recipe
from tests.miniature import MINIATURE

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' and transformers', of themselves


def from_single_file(file: Path, architecture: Architecture, folder: Path) -> Any:
    """The pipeline that diffusers makes of a single file, offline."""
    write_configurations(architecture, folder)
    return StableDiffusionPipeline.from_single_file(
        str(file),
        config=str(folder),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
    )


def test_from_single_file_has_every_tensor(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """No meta tensor, none missing, each equal to the tensor that the key table pairs it with."""
    output = tmp_path / "out.safetensors"
    convert(load_recipe(van_gogh), checkpoint_file, output, Options(), lambda *_: None)
    narrow = Architecture(MINIATURE, 32, 32, 64, steps=1, guidance=1, batch=1, others=())
    loaded = from_single_file(output, narrow, tmp_path / "configs")
    written = load_file(output)
    assert_equal(loaded.unet, list(unet_keys(MINIATURE)), written)
    assert_equal(loaded.vae, list(vae_keys(MINIATURE)), written)
    assert_equal(loaded.text_encoder, list(text_keys(MINIATURE)), written)


def test_our_loading_makes_the_pictures_of_from_single_file(tmp_path: Path) -> None:
    jobs = [Job("a dog by Van Gogh", 0), Job("a blue car", 1)]
    with checkpoint() as file, torch.inference_mode():
        theirs = from_single_file(file, architecture_of(DEMO), tmp_path / "configs")
        theirs.set_progress_bar_config(disable=True)
        ours, architecture = load_pipeline(file)
        sampling = Sampling(steps=3, guidance=4)
        first, second = (
            generate(p, architecture, jobs, sampling, lambda _: None) for p in (ours, theirs)
        )
    assert torch.equal(first, second)


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
