"""ComfyUI's own code, where its source is on this machine: see CONTRIBUTING.md.

It is under the GPL and in no package registry, so that it is neither a part of these tests nor a
dependency of them.
"""

import importlib
import os
import sys
import warnings
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.miniature import State

VARIABLE = "ERASEPRO_COMFYUI"
UNET, TEXT = "model.diffusion_model.", "cond_stage_model."
IMPORTED_ONLY = ("torchaudio", "torchvision", "torchvision.transforms")
"""What its modules import and nothing of this calls; empty modules will do."""


def import_comfyui() -> SimpleNamespace:
    """Import what loads models and LoRAs, for the CPU; skip the test where there is no source."""
    source = os.environ.get(VARIABLE)
    if not source:
        pytest.skip(f"{VARIABLE} does not say where ComfyUI's source is")
    if not Path(source, "comfy", "lora.py").is_file():
        pytest.fail(f"{VARIABLE}={source}: there is no ComfyUI in this folder")
    if source not in sys.path:
        sys.path.append(source)
    for name in [name for name in IMPORTED_ONLY if find_spec(name.split(".")[0]) is None]:
        module = ModuleType(name)
        module.__path__ = []
        module.__spec__ = ModuleSpec(name, None)
        sys.modules[name] = module
        package, _, part = name.partition(".")
        if part:
            setattr(sys.modules[package], part, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about its own code
        importlib.import_module("comfy.cli_args").args.cpu = True
        names = ("sd", "lora", "model_detection", "model_patcher")
        return SimpleNamespace(**{name: importlib.import_module(f"comfy.{name}") for name in names})


class Weights(nn.Module):
    """Tensors under their names: of a model all that is needed to patch it."""

    def __init__(self, tensors: State) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))


def loaded(comfy: SimpleNamespace, state: State) -> tuple[Any, Any]:
    """A checkpoint's U-Net and text encoder in ComfyUI's own ModelPatcher and CLIP.

    The demo model is too narrow for ComfyUI to draw with it, but its tensors have the names.
    """
    cpu = torch.device("cpu")
    unet = Weights({k.removeprefix("model."): v for k, v in state.items() if k.startswith(UNET)})
    config = comfy.model_detection.detect_unet_config(state, UNET)
    unet.model_config = SimpleNamespace(unet_config=config)  # type: ignore[assignment]
    text = Weights(
        {
            name.replace(TEXT, "clip_l."): tensor
            for name, tensor in state.items()
            if name.startswith(TEXT) and "position_ids" not in name
        }
    )
    clip = comfy.sd.CLIP(no_init=True)
    clip.cond_stage_model = text
    clip.patcher = comfy.model_patcher.ModelPatcher(text, cpu, cpu)
    clip.tokenizer_options = {}
    clip.tokenizer = clip.layer_idx = clip.use_clip_schedule = clip.apply_hooks_to_conds = None
    return comfy.model_patcher.ModelPatcher(unet, cpu, cpu), clip


def named_as_in_files(model: Any, clip: Any) -> State:
    """The weights with their patches, which ComfyUI applies, under the names of a checkpoint."""
    for patcher in (model, clip.patcher):
        patcher.patch_model()
    unet = {f"model.{key}": tensor.clone() for key, tensor in model.model.state_dict().items()}
    text = {
        key.replace("clip_l.", TEXT): tensor.clone()
        for key, tensor in clip.patcher.model.state_dict().items()
    }
    for patcher in (model, clip.patcher):
        patcher.unpatch_model()
    return unet | text
