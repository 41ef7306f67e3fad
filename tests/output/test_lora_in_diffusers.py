"""diffusers' own loader (over peft) takes the LoRA: same weights and pictures as the whole file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from erasepro_convert import demo
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.images.pipeline import load_pipeline
from tests.miniature import State

PROMPTS = ("a photo of snoopy", "a house")


def drawn(pipeline: StableDiffusionPipeline) -> np.ndarray:
    """A picture of each prompt, with few steps: values from 0 to 1."""
    pictures = [
        pipeline(
            prompt,
            num_inference_steps=4,
            guidance_scale=4.0,
            height=64,
            width=64,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images[0]
        for prompt in PROMPTS
    ]
    return np.stack(pictures)


def copied(pipeline: StableDiffusionPipeline, part: str) -> State:
    """The weights of a part, in float64."""
    return {name: w.double() for name, w in getattr(pipeline, part).state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "of_erasure"), [(None, 0.001), (4, 0.3)])
def test_original_and_lora_draw_what_the_whole_file_draws(
    limit: int | None, of_erasure: float, tmp_path: Path
) -> None:
    """Pictures differ by a share of what the erasure changes in them."""
    target, lora = tmp_path / "out.safetensors", tmp_path / "lora.safetensors"
    options = Options(lora=lora, lora_rank=limit)
    parts = ("unet", "text_encoder")
    with demo.checkpoint() as model:
        manifest = convert(Path("recipes/demo/snoopy.yaml"), model, target, options)
        pipeline, _ = load_pipeline(model)
        original = drawn(pipeline)
        before = {part: copied(pipeline, part) for part in parts}
    whole, _ = load_pipeline(target)
    expected = drawn(whole)
    pipeline.load_lora_weights(str(lora))
    with_lora = drawn(pipeline)
    changed = np.abs(original - expected).mean()
    assert changed > 0.01
    assert np.abs(with_lora - expected).mean() <= of_erasure * changed

    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    assert manifest.lora
    error, norm = 0.0, 0.0
    for part in parts:
        found, wanted = copied(pipeline, part), copied(whole, part)
        error += sum(float((found[n] - wanted[n]).square().sum()) for n in wanted)
        norm += sum(float((before[part][n] - wanted[n]).square().sum()) for n in wanted)
    assert (error / norm) ** 0.5 == pytest.approx(manifest.lora.loss.overall, rel=0.01)
