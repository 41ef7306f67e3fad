"""A diffusers folder: which weight files of its components are read.

Only weights are read, never code and never a custom pipeline; tensors get their component's name in
front, as in a single file with diffusers names.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasepro_convert.checkpoint.names import naming, printable
from erasepro_convert.checkpoint.single import CheckpointFile, open_file, opened
from erasepro_convert.errors import CheckpointError
from erasepro_convert.ranges import exists
from erasepro_convert.storage import Location, is_folder, names_in

COMPONENTS = {
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
    "vae": "diffusion_pytorch_model",
}
"""The components that hold an SD1.x model, and what their weight files are called."""

FOREIGN = {
    "text_encoder_2": "SDXL or another model with two text encoders",
    "transformer": "a transformer model (Stable Diffusion 3, Flux, …)",
    "prior": "a model with a prior (Kandinsky, unCLIP, …)",
}
JSON_LIMIT = 4 << 20
SHARDS_LIMIT = 100
PREDICTION_METADATA = "modelspec.prediction_type"
ZERO_SNR_METADATA = "erasepro.zero_terminal_snr"
OTHER_FILE = "another file of the same component, not read"


@dataclass(frozen=True)
class Folder:
    """Each weight file with its component, why others are not read, what configurations say."""

    files: list[tuple[str, CheckpointFile]]
    others: dict[str, str]
    metadata: dict[str, str]


def open_folder(path: Location, name: str) -> Folder:
    """Find the weight files of a diffusers folder and open them; messages call it ``name``.

    Raises CheckpointError for a folder that is no diffusers model, and as ``open_file`` does.
    """
    for part, model in FOREIGN.items():
        if is_folder(path / part):
            raise CheckpointError(
                f"{name}: not a Stable Diffusion 1.x checkpoint: this is {model} "
                f"(it has a folder {part}/)"
            )
    if not is_folder(path / "unet"):
        raise CheckpointError(
            f"{name}: a folder, but no diffusers model (it has no unet/); give a checkpoint file"
        )
    read: list[tuple[str, CheckpointFile]] = []
    others: dict[str, str] = {}
    for component, stem in COMPONENTS.items():
        folder = path / component
        there = names_in(folder)
        files = [file for file in there if Path(file).suffix in (".safetensors", ".bin", ".pt")]
        chosen = list(_chosen(folder, there, f"{name}/{component}", stem))
        if is_folder(folder) and not chosen:
            raise CheckpointError(f"{name}: {component}/ has no weight file that diffusers knows")
        read += [(component, open_file(folder / file, f"{component}/{file}")) for file in chosen]
        others |= {f"{component}/{printable(f)}": OTHER_FILE for f in files if f not in chosen}
    return Folder(read, others, _scheduler_metadata(path / "scheduler/scheduler_config.json", name))


def _scheduler_metadata(path: Location, name: str) -> dict[str, str]:
    """How the U-Net was trained, as metadata: weights alone do not tell."""
    if not exists(path):
        return {}
    config = _json(path, f"{name}/scheduler/{path.name}")
    metadata = {}
    if config.get("prediction_type") == "v_prediction":
        metadata[PREDICTION_METADATA] = "v"
    if config.get("rescale_betas_zero_snr") is True:
        metadata[ZERO_SNR_METADATA] = "true"
    return metadata


def _chosen(folder: Location, there: list[str], name: str, stem: str) -> Iterator[str]:
    """The weight files of a component: as diffusers would, plain before fp16, safetensors first."""
    torch_stem = "pytorch_model" if stem == "model" else stem
    for variant in ("", ".fp16", ".bf16"):
        for base, suffix in ((stem, "safetensors"), (torch_stem, "bin")):
            whole = f"{base}{variant}.{suffix}"
            if whole in there:
                yield whole
                return
            # Both orders are in use: diffusers moved the variant.
            for index in (f"{base}.{suffix}.index{variant}.json", f"{whole}.index.json"):
                if index in there:
                    yield from _shards(folder / index, there, f"{name}/{index}")
                    return


def _shards(index: Location, there: list[str], name: str) -> list[str]:
    """The files that an index names, each a plain name in its own folder."""
    broken = CheckpointError(f"{name}: it is no index of weight files")
    try:
        shards = sorted(set(_json(index, name)["weight_map"].values()))
    except (TypeError, KeyError, AttributeError) as error:
        raise broken from error
    for shard in shards:
        if not isinstance(shard, str) or shard != Path(shard).name or len(shards) > SHARDS_LIMIT:
            raise broken
        if shard not in there:
            raise CheckpointError(f"{name}: it names {printable(shard)}, which is not there")
    return shards


def _json(path: Location, name: str) -> dict[str, Any]:
    """A small JSON file that holds an object."""
    with naming(name):
        file = opened(path)
        text = file.read(0, min(file.size, JSON_LIMIT))
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: it is no JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: it is no JSON object")
    return content
