"""The weights of a model that ComfyUI has loaded, and an erasure as patches on it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, Self

import comfy.lora
import torch
from torch import Tensor

from erasepro_convert import Erased, Recipe, erase_state_dict

UNET = ("diffusion_model.", "model.diffusion_model.")
TEXT = ("clip_l.transformer.text_model.", "cond_stage_model.transformer.text_model.")
"""The prefixes of a part's tensors in ComfyUI and in a checkpoint."""


class Model(Protocol):
    """What is used of ComfyUI's ModelPatcher: a model as it was loaded, and patches by tensor."""

    def clone(self) -> Self:
        """Return a copy with patches of its own, which shares the loaded weights."""

    def add_patches(self, patches: Mapping[str, tuple[str, tuple[Tensor]]]) -> Collection[str]:
        """Add a patch to tensors, and return those that there are."""

    def get_key_patches(self, filter_prefix: str) -> Mapping[str, Sequence[Any]]:
        """Return the loaded weight (with what gives its values) and the patches by tensor."""


class Clip(Protocol):
    """What is used of ComfyUI's CLIP."""

    patcher: Model

    def clone(self) -> Self:
        """Return a copy, as ``Model.clone`` does."""


def erase(
    model: Model, clip: Clip, recipe: Recipe, progress: Callable[[str, int, int], None]
) -> tuple[Model, Clip, Erased]:
    """Return copies of both that hold the erased weights as patches; what was given stays as it is.

    LoRAs and merges that were applied before are part of what is erased.

    Raises what ``erase_state_dict`` raises.
    """
    weights = _weights(model, UNET) | _weights(clip.patcher, TEXT)
    erased = erase_state_dict(recipe, weights, progress)
    model, clip = model.clone(), clip.clone()
    _replace(model, UNET, erased.weights)
    _replace(clip.patcher, TEXT, erased.weights)
    return model, clip, erased


def _weights(patcher: Model, prefixes: tuple[str, str]) -> dict[str, Tensor]:
    """Return the weights of a part as they are with all its patches, named as in a checkpoint."""
    here, in_file = prefixes
    return {
        in_file + key.removeprefix(here): _patched(key, *chain)
        for key, chain in patcher.get_key_patches(here).items()
    }


def _patched(key: str, loaded: tuple[Tensor, Callable[..., Tensor]], *patches: Any) -> Tensor:
    """Return a weight with its patches, which ComfyUI applies when it moves it to the GPU.

    ``loaded`` is the weight as it was loaded, and the function that gives its values.
    """
    weight, convert = loaded
    if not patches:
        return weight
    with torch.inference_mode():
        values = convert(weight.to("cpu", torch.float32, copy=True), inplace=True)
        patched: Tensor = comfy.lora.calculate_weight(list(patches), values, key)
        return patched.to(weight.dtype)


def _replace(patcher: Model, prefixes: tuple[str, str], weights: Mapping[str, Tensor]) -> None:
    """Add a patch for each edited weight of a part that puts it in place of what is there."""
    here, in_file = prefixes
    patches = {
        here + name.removeprefix(in_file): ("set", (weight,))
        for name, weight in weights.items()
        if name.startswith(in_file)
    }
    applied = patcher.add_patches(patches)
    assert set(applied) == set(patches)
