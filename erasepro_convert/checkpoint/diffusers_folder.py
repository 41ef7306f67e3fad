"""A diffusers folder: the choice of the weight files that are read.

Only weights are read, never code and never a custom pipeline.  The component's name goes before the
names of its tensors, as in a single file with diffusers names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasepro_convert.checkpoint.file import CheckpointFile, open_file, open_for_reading
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import prefixing_errors, printable
from erasepro_convert.storage.listing import exists, is_folder, names_in
from erasepro_convert.storage.location import Location

COMPONENTS = {
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
    "vae": "diffusion_pytorch_model",
}
"""The components that hold an SD1.x model, and the stems of their weight files."""

OTHER_MODELS = {
    "text_encoder_2": "SDXL or another model with two text encoders",
    "transformer": "a transformer model (Stable Diffusion 3, Flux, …)",
    "prior": "a model with a prior (Kandinsky, unCLIP, …)",
}
"""Folders that SD1.x does not have, and the model that each belongs to."""
JSON_LIMIT = 4 << 20
SHARDS_LIMIT = 100
SHOWN = 5
"""The most names that a message lists."""
CONFIGURATIONS = {"scheduler": "scheduler_config.json", "text_encoder": "config.json"}
"""Configurations that say how the U-Net was trained and is fed, which weights do not tell."""
VARIANTS = ("", "fp16", "bf16")
"""Variants of weight files in the order in which they are preferred to any other."""
OTHER_FILE = "another file of the same component, not read"

Configuration = dict[str, Any]
"""A JSON object from an untrusted file."""


@dataclass(frozen=True)
class Folder:
    """What a diffusers folder holds: weight files and configurations by component.

    ``skipped`` gives the reason why each other weight file is not read.
    """

    files: list[tuple[str, CheckpointFile]]
    skipped: dict[str, str]
    configurations: dict[str, Configuration]


def open_folder(path: Location, name: str) -> Folder:
    """Find the weight files of a diffusers folder and open them; messages call it ``name``.

    Raises CheckpointError for a folder that is no diffusers model, and what ``open_file`` raises.
    """
    for part, model in OTHER_MODELS.items():
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
    skipped: dict[str, str] = {}
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
        skipped |= {f"{component}/{printable(f)}": OTHER_FILE for f in files if f not in chosen}
    return Folder(read, skipped, _configurations(path, name))


def _class_of(path: Location, name: str) -> str:
    """Return the end of a message: the class that a configuration names, or nothing.

    It tells users that they gave the folder of a single component.
    """
    for file, key in (("config.json", "_class_name"), ("adapter_config.json", "peft_type")):
        if exists(path / file):
            config = _read_json(path / file, f"{name}/{file}")
            said = config.get(key, config.get("architectures"))
            first = next(iter(said), None) if isinstance(said, list) else said
            if isinstance(first, str):
                return f", and its {file} says {printable(first)}"
    return ""


def _configurations(path: Location, name: str) -> dict[str, Configuration]:
    return {
        component: _read_json(path / component / file, f"{name}/{component}/{file}")
        for component, file in CONFIGURATIONS.items()
        if exists(path / component / file)
    }


def _chosen(folder: Location, there: list[str], name: str, stem: str) -> Iterator[str]:
    """Choose a component's weight files as diffusers does: plain before fp16, safetensors first.

    Another variant (``ema``, ``non_ema``, …) is chosen where it is the only one.  Raises
    CheckpointError where there are several other variants, since nothing tells which one is meant.
    """
    stems = {"safetensors": stem, "bin": "pytorch_model" if stem == "model" else stem}
    others = sorted({v for file in there if (v := _variant(file, stems))} - {*VARIANTS})
    for variant in (*VARIANTS, *others):
        for suffix, base in stems.items():
            whole = ".".join(filter(None, (base, variant, suffix)))
            # Names of an index have the variant in either place: diffusers moved it.
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
    """Return the variant of a weight file, or of an index of weight files; None for other files."""
    for suffix, base in stems.items():
        for pattern in (r"(\w+)\.{}(\.index\.json)?", r"{}\.index\.(\w+)\.json"):
            if found := re.fullmatch(rf"{base}\.{pattern.format(suffix)}", file):
                return found[1]
    return None


def _shards(index: Location, there: list[str], name: str) -> list[str]:
    """Return the weight files that an index names; each must be a file in the index's folder."""
    broken = CheckpointError(f"{name}: it is no index of weight files")
    try:
        shards = sorted(set(_read_json(index, name)["weight_map"].values()))
    except (TypeError, KeyError, AttributeError) as error:
        raise broken from error
    for shard in shards:
        if not isinstance(shard, str) or shard != Path(shard).name or len(shards) > SHARDS_LIMIT:
            raise broken
        if shard not in there:
            raise CheckpointError(f"{name}: it names {printable(shard)}, which is not there")
    return shards


def _read_json(path: Location, name: str) -> Configuration:
    """Read a small JSON file that holds an object.  Raises CheckpointError, naming the file."""
    with prefixing_errors(name):
        file = open_for_reading(path)
        text = file.read(0, min(file.size, JSON_LIMIT))
    try:
        content = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: it is no JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name}: it is no JSON object")
    return content
