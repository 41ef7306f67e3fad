"""Our output in diffusers: it loads offline, whole, and makes the pictures that ours does."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import checkpoint
from erasepro_convert.errors import CheckpointError, UsageError
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.output.diffusers_folder import configurations, write_configurations
from erasepro_convert.recipe import load_recipe
from erasepro_convert.sd1.architecture import DEMO, Architecture, architecture_of
from erasepro_convert.sd1.keys import (
    GUIDANCE_EMBEDDING,
    POSITION_IDS,
    PREDICTION_MARKERS,
    SD1,
    Key,
    text_keys,
)
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.sd1.statements import PREDICTION_METADATA, ZERO_SNR_METADATA
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys
from tests import oracle
from tests.miniature import MINIATURE

pytestmark = pytest.mark.slow


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
    jobs = [SeededPrompt("a dog by Van Gogh", 0), SeededPrompt("a blue car", 1)]
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
        assert torch.equal(state[name].flatten().float(), written[key.original].flatten().float())
        seen += 1
    extra = {name for name in state if "position_ids" not in name}
    assert seen == len(extra)


def test_a_folder_has_the_tensors_of_the_file(van_gogh: Path, tmp_path: Path) -> None:
    """The same erasure written as a folder: diffusers loads it whole, and so do we."""
    recipe = load_recipe(van_gogh)
    with checkpoint() as file:
        single = tmp_path / "out.safetensors"
        convert(recipe, file, single, Options(), lambda *_: None)
        folder = tmp_path / "out"
        manifest = convert(recipe, file, folder, Options(folder=True), lambda *_: None)
    written = load_file(single)
    loaded: Any = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert_equal(loaded.unet, list(unet_keys(DEMO)), written)
    assert_equal(loaded.vae, list(vae_keys(DEMO)), written)
    assert_equal(loaded.text_encoder, list(text_keys(DEMO)), written)
    assert loaded.tokenizer("a photo of a cat").input_ids == [
        49406,
        320,
        1125,
        539,
        320,
        2368,
        49407,
    ]
    assert manifest.tensors.written == 686 + 248 + 196
    dropped = {entry.name for entry in manifest.tensors.dropped}
    assert dropped == {"alphas_cumprod", "betas", POSITION_IDS}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", *(output.name for output in manifest.output.files)}
    for output in manifest.output.files:
        digest = hashlib.sha256((folder / output.name).read_bytes()).hexdigest()
        assert (output.sha256, output.autov2) == (digest, digest[:10])
    again = open_sd1_checkpoint(folder)
    for name in again.layout.source:
        assert torch.equal(again.read(name), written[name])


def test_a_dry_run_of_a_folder_has_the_digests_of_the_real_one(
    van_gogh: Path, tmp_path: Path
) -> None:
    recipe, target = load_recipe(van_gogh), tmp_path / "out"
    with checkpoint() as file:
        dry = convert(recipe, file, target, Options(folder=True, dry_run=True), lambda *_: None)
        assert not target.exists()
        real = convert(recipe, file, target, Options(folder=True), lambda *_: None)
        assert real.output.files == dry.output.files
        with pytest.raises(UsageError, match="a folder is not replaced"):
            convert(recipe, file, target, Options(folder=True, force=True), lambda *_: None)
        with pytest.raises(UsageError, match="no place for an EMA copy"):
            asked = Options(folder=True, ema="convert")
            convert(recipe, file, tmp_path / "other", asked, lambda *_: None)


def test_configurations_say_what_weights_do_not() -> None:
    """Inpainting has its own pipeline, v-prediction its own sampling; a missing VAE is named so."""
    widths = replace(SD1, in_channels=9, vae=(0, 0, 0, 0))
    files = configurations(
        widths, "stable-diffusion-v1-inpainting", {"prediction_type": "v_prediction"}
    )
    index = json.loads(files["model_index.json"])
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    assert index["vae"] == [None, None]
    assert json.loads(files["unet/config.json"])["in_channels"] == 9
    scheduler = json.loads(files["scheduler/scheduler_config.json"])
    assert scheduler["prediction_type"] == "v_prediction"
    with pytest.raises(CheckpointError, match="configuration is known"):
        configurations(MINIATURE, "stable-diffusion-v1", {})


@pytest.mark.parametrize("where", ["markers", "metadata"])
def test_v_prediction_reaches_the_sampler(where: str, tmp_path: Path) -> None:
    """From markers in the file or from metadata; ztsnr asks for its own spacing of steps."""
    with checkpoint() as file:
        state = load_file(file)
    markers = {marker: torch.empty(0) for marker in PREDICTION_MARKERS}
    stated = {PREDICTION_METADATA: "v", ZERO_SNR_METADATA: "true"}
    source = tmp_path / "in.safetensors"
    if where == "markers":
        save_file(state | markers, source)
    else:
        save_file(state, source, metadata=stated)
    pipeline, _ = load_pipeline(source)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert pipeline.scheduler.config.timestep_spacing == "trailing"


STATED = {
    "modelspec.prediction_type": "v_prediction",
    "ss_zero_terminal_snr": "True",
    "modelspec.encoder_layer": "2",
}


def told(folder: Path) -> tuple[str, bool, str, int]:
    """What diffusers reads of prediction, zero SNR, the steps that it asks for, and text layers."""
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    text = json.loads((folder / "text_encoder/config.json").read_text())
    return (
        scheduler["prediction_type"],
        scheduler["rescale_betas_zero_snr"],
        scheduler["timestep_spacing"],
        text["num_hidden_layers"],
    )


def test_how_a_model_is_sampled_and_fed_goes_through_files_and_folders(
    van_gogh: Path, tmp_path: Path
) -> None:
    """File to folder, folder to folder, folder to file, file to file: v, zero SNR, clip skip 2."""
    with checkpoint() as file:
        save_file(load_file(file), tmp_path / "in.safetensors", metadata=STATED)
    recipe = load_recipe(van_gogh)
    source = tmp_path / "in.safetensors"
    for target in ("a", "b", "c.safetensors", "d.safetensors"):
        options = Options(folder="." not in target)
        manifest = convert(recipe, source, tmp_path / target, options, lambda *_: None)
        assert manifest.recipe.clip_skip == (1, 2)
        assert manifest.variant.clip_skip_from == "metadata"
        source = tmp_path / target
        if options.folder:
            assert told(source) == ("v_prediction", True, "trailing", 11)
        states = open_sd1_checkpoint(source).statements
        assert (states.predicts_v, states.zero_snr, states.clip_skip) == (True, True, 2)
        assert states.unclear == ()


def test_a_folder_feeds_its_unet_as_clip_skip_says(tmp_path: Path, van_gogh: Path) -> None:
    """Transformers leaves the last layer out, though it is stored, and norms what is before it."""
    with checkpoint() as file:
        state = load_file(file)
    source = tmp_path / "in.safetensors"
    save_file(state, source, metadata={"modelspec.encoder_layer": "2"})
    recipe = load_recipe(van_gogh)
    convert(recipe, source, tmp_path / "out", Options(folder=True), lambda *_: None)
    loaded: Any = CLIPTextModel.from_pretrained(tmp_path / "out/text_encoder")
    written = open_sd1_checkpoint(tmp_path / "out")
    weights = {key.original: written.read(key.original) for key in text_keys(DEMO)}
    ids = [49406, 320, 1125, 539, 320, 2368, 49407]
    with torch.inference_mode():
        fed = loaded.float()(torch.tensor([ids])).last_hidden_state[0]
    expected = oracle.features(oracle.text_model(weights), ids, None, skip=2)
    assert np.allclose(fed.T.numpy(), expected[:, : len(ids)], atol=1e-4)


def test_an_lcm_stays_one_in_files_and_folders(van_gogh: Path, tmp_path: Path) -> None:
    """Its guidance embedding bit for bit, and configurations with which diffusers reads it."""
    name, weight = GUIDANCE_EMBEDDING, torch.randn(48, 256).half()
    with checkpoint() as file:
        save_file({**load_file(file), name: weight}, tmp_path / "in.safetensors")
    recipe = load_recipe(van_gogh)
    source = tmp_path / "in.safetensors"
    for target in ("a.safetensors", "b", "c.safetensors"):
        options = Options(folder="." not in target)
        manifest = convert(recipe, source, tmp_path / target, options, lambda *_: None)
        assert not {entry.name for entry in manifest.tensors.dropped if "cond_proj" in entry.name}
        source = tmp_path / target
        assert torch.equal(open_sd1_checkpoint(source).read(name), weight)
    loaded: Any = DiffusionPipeline.from_pretrained(tmp_path / "b", local_files_only=True)
    assert isinstance(loaded, LatentConsistencyModelPipeline)
    assert isinstance(loaded.scheduler, LCMScheduler)
    assert torch.equal(loaded.unet.time_embedding.cond_proj.weight.half(), weight)
    with pytest.raises(CheckpointError, match="latent consistency model"):
        load_pipeline(tmp_path / "b")
