"""A stand-in for what the nodes use of ComfyUI, written for these tests.

ComfyUI is no package that can be installed; ``tests.integrations.comfyui_source`` has its own code
where that is on this machine.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.miniature import State

PACKAGE = Path("integrations/comfyui").resolve()
MODULE = str(PACKAGE).replace(".", "_x_")
"""The name that ComfyUI gives a package in a folder."""


class Interrupted(Exception):  # noqa: N818 (as ComfyUI's own)
    """What ComfyUI raises in a node where the user cancels."""


@dataclass
class Patcher:
    """Weights as they were loaded, and patches by name: ComfyUI's ModelPatcher."""

    weights: State
    patches: dict[str, list[Any]] = field(default_factory=dict)

    def clone(self) -> "Patcher":
        return Patcher(self.weights, {key: [*some] for key, some in self.patches.items()})

    def add_patches(
        self,
        patches: Mapping[str, Any],
        strength_patch: float = 1.0,
        strength_model: float = 1.0,
    ) -> list[str]:
        known = [key for key in patches if key in self.weights]
        for key in known:
            entry = (strength_patch, patches[key], strength_model, None, None)
            self.patches.setdefault(key, []).append(entry)
        return known

    def get_key_patches(self, filter_prefix: str) -> dict[str, list[Any]]:
        return {
            key: [(weight, lambda values, inplace: values), *self.patches.get(key, [])]
            for key, weight in self.weights.items()
            if key.startswith(filter_prefix)
        }

    def loaded(self) -> State:
        """The weights with their patches, as the sampler has them."""
        return {
            key: calculate_weight(self.patches.get(key, []), weight.float().clone(), key).to(
                weight.dtype
            )
            for key, weight in self.weights.items()
        }


@dataclass
class Clip:
    """ComfyUI's CLIP, which is the text encoder's patcher and more."""

    patcher: Patcher

    def clone(self) -> "Clip":
        return Clip(self.patcher.clone())


def calculate_weight(patches: list[Any], weight: Tensor, key: str) -> Tensor:
    for strength, patch, strength_model, _, _ in patches:
        weight *= strength_model
        match patch:
            case ("set", (value,)):
                weight.copy_(value)
            case (difference,):
                weight += strength * difference
    return weight


class ComfyUI:
    """The modules that the nodes import; ``checkpoints`` are files by name."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.checkpoints: dict[str, Path] = {}
        self.shown: list[tuple[int, int]] = []
        self.is_cancelled: Callable[[], bool] = lambda: False

    def modules(self) -> dict[str, ModuleType]:
        def module(name: str, **content: object) -> ModuleType:
            made = ModuleType(name)
            vars(made).update(content)
            return made

        class ProgressBar:
            def __init__(self, total: int) -> None:
                pass

            def update_absolute(bar, value: int, total: int) -> None:  # noqa: N805
                self.shown.append((value, total))

        lora = module("comfy.lora", calculate_weight=calculate_weight)
        utils = module("comfy.utils", ProgressBar=ProgressBar)
        management = module(
            "comfy.model_management", throw_exception_if_processing_interrupted=self._check
        )
        folders = module(
            "folder_paths",
            get_filename_list=lambda kind: [*self.checkpoints],
            get_full_path_or_raise=lambda kind, name: str(self.checkpoints[name]),
            get_output_directory=lambda: str(self.output),
            get_save_image_path=self._save_path,
        )
        package = module("comfy", lora=lora, utils=utils, model_management=management)
        return {one.__name__: one for one in (package, lora, utils, management, folders)}

    def _check(self) -> None:
        if self.is_cancelled():
            raise Interrupted

    def _save_path(self, prefix: str, output: str) -> tuple[str, str, int, str, str]:
        folder = Path(output, prefix).parent
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(prefix).name
        numbers = [int(path.name[len(name) + 1 :].split("_")[0]) for path in folder.iterdir()]
        return str(folder), name, max(numbers, default=0) + 1, str(Path(prefix).parent), prefix


def load_nodes() -> ModuleType:
    """Import the package from its folder, as ComfyUI does with one in ``custom_nodes``."""
    spec = importlib.util.spec_from_file_location(MODULE, PACKAGE / "__init__.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def loaded(state: State) -> tuple[Patcher, Clip]:
    """A checkpoint's U-Net and text encoder, as ComfyUI names their tensors."""
    unet = {
        name.removeprefix("model."): tensor
        for name, tensor in state.items()
        if name.startswith("model.diffusion_model.")
    }
    text = {
        name.replace("cond_stage_model.", "clip_l."): tensor
        for name, tensor in state.items()
        if name.startswith("cond_stage_model.") and "position_ids" not in name
    }
    unet["model_sampling.sigmas"] = torch.ones(1000)
    text["clip_l.logit_scale"] = torch.tensor(4.6)
    return Patcher(unet), Clip(Patcher(text))


def named_as_in_files(model: Patcher, clip: Clip) -> State:
    """The weights with their patches under the names of a checkpoint."""
    unet = {f"model.{key}": tensor for key, tensor in model.loaded().items()}
    text = clip.patcher.loaded().items()
    return unet | {key.replace("clip_l.", "cond_stage_model."): tensor for key, tensor in text}
