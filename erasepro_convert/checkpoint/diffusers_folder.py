"""A diffusers folder: which weight files of its components are read.

Only weights are read, never code and never a custom pipeline; tensors get their component's name in
front, as in a single file with diffusers names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasepro_convert.checkpoint.file import CheckpointFile, open_file, opened
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import prefixing_errors, printable
from erasepro_convert.storage.listing import exists, is_folder, names_in
from erasepro_convert.storage.location import Location

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
SHOWN = 5
"""Names that a message lists."""
CONFIGURATIONS = {"scheduler": "scheduler_config.json", "text_encoder": "config.json"}
"""Those that say how the U-Net was trained and is fed: weights alone do not tell."""
VARIANTS = ("", "fp16", "bf16")
"""Of weight files: those that are taken whatever else is there, in this order."""
OTHER_FILE = "another file of the same component, not read"

Configuration = dict[str, Any]
"""A JSON object of a stranger's making."""


@dataclass(frozen=True)
class Folder:
    """Each weight file with its component, why others are not read, configurations by component."""

    files: list[tuple[str, CheckpointFile]]
    others: dict[str, str]
    configurations: dict[str, Configuration]


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
            f"{name}: a folder, but no diffusers model (it has no unet/{_class_of(path, name)}); "
            "give a checkpoint file"
        )
    read: list[tuple[str, CheckpointFile]] = []
    others: dict[str, str] = {}
    for component, stem in COMPONENTS.items():
        folder = path / component
        there = names_in(folder)
        files = [file for file in there if Path(file).suffix in (".safetensors", ".bin", ".pt")]
        chosen = list(_chosen(folder, there, f"{name}/{component}", stem))
        if is_folder(folder) and not chosen:
            found = ", ".join(map(printable, there[:SHOWN])) or "nothing"
            raise CheckpointError(
                f"{name}: {component}/ has no weight file that diffusers knows; it holds {found}"
            )
        read += [(component, open_file(folder / file, f"{component}/{file}")) for file in chosen]
        others |= {f"{component}/{printable(f)}": OTHER_FILE for f in files if f not in chosen}
    return Folder(read, others, _configurations(path, name))


def _class_of(path: Location, name: str) -> str:
    """What the configuration of a component says that it is, where one lies alone in a folder."""
    for file, key in (("config.json", "_class_name"), ("adapter_config.json", "peft_type")):
        if exists(path / file):
            config = _json(path / file, f"{name}/{file}")
            said = config.get(key, config.get("architectures"))
            first = next(iter(said), None) if isinstance(said, list) else said
            if isinstance(first, str):
                return f", and its {file} says {printable(first)}"
    return ""


def _configurations(path: Location, name: str) -> dict[str, Configuration]:
    return {
        component: _json(path / component / file, f"{name}/{component}/{file}")
        for component, file in CONFIGURATIONS.items()
        if exists(path / component / file)
    }


def _chosen(folder: Location, there: list[str], name: str, stem: str) -> Iterator[str]:
    """The weight files of a component: as diffusers would, plain before fp16, safetensors first.

    Another variant (``ema``, ``non_ema``, …) is read where it is the only one that is there.

    Raises CheckpointError where several others are there and nothing tells which one is meant.
    """
    stems = {"safetensors": stem, "bin": "pytorch_model" if stem == "model" else stem}
    others = sorted({v for file in there if (v := _variant(file, stems))} - {*VARIANTS})
    for variant in (*VARIANTS, *others):
        for suffix, base in stems.items():
            whole = ".".join(filter(None, (base, variant, suffix)))
            # Both orders are in use: diffusers moved the variant.
            moved = ".".join(filter(None, (base, suffix, "index", variant, "json")))
            index = next((file for file in (moved, f"{whole}.index.json") if file in there), None)
            if whole not in there and index is None:
                continue
            if variant in others and len(others) > 1:
                raise CheckpointError(
                    f"{name}: it has no plain weights, but {len(others)} variants of them "
                    f"({', '.join(others)}); leave only the one that is meant"
                )
            if whole in there:
                yield whole
            else:
                yield from _shards(folder / str(index), there, f"{name}/{index}")
            return


def _variant(file: str, stems: Mapping[str, str]) -> str | None:
    """Which variant of a component's weights a file is, or an index of; None for other files."""
    for suffix, base in stems.items():
        for pattern in (r"(\w+)\.{}(\.index\.json)?", r"{}\.index\.(\w+)\.json"):
            if found := re.fullmatch(rf"{base}\.{pattern.format(suffix)}", file):
                return found[1]
    return None


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


def _json(path: Location, name: str) -> Configuration:
    """A small JSON file that holds an object."""
    with prefixing_errors(name):
        file = opened(path)
        text = file.read(0, min(file.size, JSON_LIMIT))
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: it is no JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: it is no JSON object")
    return content
