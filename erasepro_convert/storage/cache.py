"""Tensors that are dear to compute, kept in the user's cache folder and checked when read."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from erasepro_convert.runtime.dtypes import dtype_code, packed
from erasepro_convert.runtime.hashing import tensor_digest, tensors_digest
from erasepro_convert.storage.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

DIGEST = "sha256"
"""The metadata entry with the digest of all tensors."""


def cached_tensors(
    name: str, compute: Callable[[], Mapping[str, "Tensor"]]
) -> Mapping[str, "Tensor"]:
    """Return the tensors that are cached under ``name``, or compute them and keep them.

    ``name`` must hold a digest of everything that the tensors depend on.  A file that is damaged is
    computed anew.  Where the folder cannot be written to, a warning says so.
    """
    path = user_cache_path("erasepro-convert") / f"{name}.safetensors"
    if (found := _read(path)) is not None:
        return found
    computed = {name: tensor.contiguous() for name, tensor in compute().items()}
    try:
        _write(path, computed)
    except OSError as error:
        warnings.warn(f"{path}: {error.strerror}: not kept for the next run", stacklevel=2)
    return computed


def _read(path: Path) -> Mapping[str, "Tensor"] | None:
    """Return the tensors of a file; None where there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return tensors if metadata.get(DIGEST) == _digest(tensors) else None


def _write(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (file,):
        file.write(save(dict(tensors), metadata={DIGEST: _digest(tensors)}))


def _digest(tensors: Mapping[str, "Tensor"]) -> str:
    return tensors_digest(
        {
            name: tensor_digest(name, dtype_code(t.dtype), t.shape, [memoryview(packed(t))])
            for name, t in tensors.items()
        }
    )
