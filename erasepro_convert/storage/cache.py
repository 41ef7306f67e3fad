"""Tensors that are dear to compute, kept in the user's cache folder and checked when read."""

import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from erasepro_convert.runtime.dtypes import dtype_code, packed
from erasepro_convert.runtime.hashing import tensor_digest, tensors_digest
from erasepro_convert.storage.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor

DIGEST = "blake3"
"""The metadata entry with the digest of all tensors."""

LIMIT = 2 << 30
"""Bytes that all files of the cache may take; those that were not used for longest go first."""

LARGEST = LIMIT // 4
"""Bytes of the largest file that is kept."""

WAIT = 0.1
"""Seconds after which a process looks again whether another one is done."""


def cached_tensors(
    name: str,
    compute: Callable[[], Mapping[str, "Tensor"]],
    wait: Callable[[], None] = lambda: None,
    *,
    is_dear: bool = True,
) -> Mapping[str, "Tensor"]:
    """Return the tensors that are cached under ``name``, or compute them and keep them.

    ``name`` must hold a digest of everything that the tensors depend on.  A file that is damaged is
    computed anew.  One process computes at a time, on all cores; others wait for what it keeps, and
    call ``wait`` meanwhile.  Where the folder cannot be written to, a warning says so of what
    ``is_dear`` to compute.
    """
    if (found := find_tensors(name)) is not None:
        return found
    with _turn(wait):
        if (found := find_tensors(name)) is not None:
            return found
        computed = compute()
        keep_tensors(name, computed, is_dear=is_dear)
        return computed


@contextmanager
def _turn(wait: Callable[[], None]) -> Iterator[None]:
    """Wait for the other processes that compute; without locks in the file system, do not wait."""
    with ExitStack() as stack:
        with suppress(OSError):
            folder = user_cache_path("erasepro-convert")
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(folder / "lock", "wb"))
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    wait()
                    time.sleep(WAIT)
        yield


def find_tensors(name: str) -> Mapping[str, "Tensor"] | None:
    """Return the tensors that are cached under ``name``; None for none, or a damaged file."""
    from safetensors import SafetensorError, safe_open

    path = _path(name)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        os.utime(path)
    except (OSError, SafetensorError):
        return None
    return tensors if metadata.get(DIGEST) == state_digest(tensors.items()) else None


def keep_tensors(name: str, tensors: Mapping[str, "Tensor"], *, is_dear: bool = False) -> None:
    """Keep tensors under ``name``, unless they are too large or the folder cannot be written to.

    A warning says so of what ``is_dear``: a minute, not seconds, that the next run takes again.
    """
    from safetensors.torch import save

    if sum(tensor.nbytes for tensor in tensors.values()) > LARGEST:
        return
    path = _path(name)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as (file,):
            file.write(save(contiguous, metadata={DIGEST: state_digest(contiguous.items())}))
        _remove_oldest(path.parent)
    except OSError as error:
        if is_dear:
            warnings.warn(f"{path}: {error.strerror}: not kept for the next run", stacklevel=2)


def _path(name: str) -> Path:
    return user_cache_path("erasepro-convert") / f"{name}.safetensors"


def _remove_oldest(folder: Path) -> None:
    """Remove files until the rest is within ``LIMIT``."""
    files = []
    for file in folder.glob("*.safetensors"):
        with suppress(FileNotFoundError):  # another run removes them too
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    size = sum(size for _, size, _ in files)
    for _, nbytes, file in sorted(files):
        if size <= LIMIT:
            return
        file.unlink(missing_ok=True)
        size -= nbytes


def state_digest(tensors: Iterable[tuple[str, "Tensor"]]) -> str:
    """Return one digest of named tensors; they are needed one at a time."""
    return tensors_digest(
        {
            name: tensor_digest(name, dtype_code(t.dtype), t.shape, [packed(t)])
            for name, t in tensors
        }
    )
