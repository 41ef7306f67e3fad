"""Write safetensors files: streamed, hashed on the way, deterministic, all or nothing.

Our own writer because the library's puts metadata in random order, needs every tensor in hand at
once, and neither syncs nor replaces atomically.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from erasepro_convert.digest import begin_tensor, updating
from erasepro_convert.dtypes import ITEM_SIZES


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write; ``data`` gives its packed bytes, in pieces, when its turn comes.

    ``original`` is its name and shape in the original spelling, which its digest is made of.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    data: Callable[[], Iterator[memoryview]]
    original: tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Written:
    """Size in bytes of a safetensors stream, its digest, and that of what follows its header.

    ``tensors`` has the digest of each tensor by its original name.
    """

    size: int
    sha256: str
    autov3: str
    tensors: dict[str, str]


def stream(
    tensors: Sequence[OutputTensor],
    metadata: Mapping[str, str],
    write: Callable[[memoryview], object],
    progress: Callable[[int, int], None],
) -> Written:
    """Send a safetensors file to ``write``; ``progress`` gets bytes done and bytes in all."""
    # The library's own order: widest dtype first keeps every tensor aligned, then by name.
    ordered = sorted(tensors, key=lambda tensor: (-ITEM_SIZES[tensor.dtype], tensor.name))
    head = header(ordered, metadata)
    total = len(head) + sum(tensor.nbytes for tensor in ordered)
    whole, body = hashlib.sha256(head), hashlib.sha256()
    write(memoryview(head))
    done = len(head)
    digests = {}
    with ThreadPoolExecutor() as threads:
        for tensor in ordered:
            end = done + tensor.nbytes
            name, shape = tensor.original
            own = begin_tensor(name, tensor.dtype, shape)
            for chunk in tensor.data() if tensor.nbytes else ():
                with updating(threads, [(h, chunk) for h in (whole, body, own)]):
                    write(chunk)
                done += len(chunk)
                progress(done, total)
            assert done == end, tensor.name
            digests[name] = own.hexdigest()
    return Written(total, whole.hexdigest(), body.hexdigest(), digests)


def header(tensors: Sequence[OutputTensor], metadata: Mapping[str, str]) -> bytes:
    """Length, JSON and padding that begin a safetensors file with ``tensors`` in this order."""
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for tensor in tensors:
        offsets = [position, position + tensor.nbytes]
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        position += tensor.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def replacing(*targets: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Files to write that take the places of ``targets`` (in one folder) when the block ends well.

    They lie beside the targets meanwhile; after a failure or an interrupt they are gone and the
    targets are as they were.  All are on the disk before the first one is moved, and no signal
    comes between the moves.  What a killed run left there is removed first.
    """
    temporaries = [_temporary(target) for target in targets]
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(open(path, "xb")) for path in temporaries)
            for file in files:
                stack.enter_context(_locked(file.fileno()))
            yield files
            for file in files:
                sync(file)
            with uninterrupted():
                for temporary, target in zip(temporaries, targets, strict=True):
                    os.replace(temporary, target)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(targets[0].parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """The same for a folder to fill; ``target`` must be an empty folder or nothing.

    Whoever writes a file into it must ``sync`` it.
    """
    temporary = _temporary(target)
    try:
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            with _locked(descriptor):
                yield temporary
                for folder in (*(p for p in temporary.rglob("*") if p.is_dir()), temporary):
                    _sync_folder(folder)
                os.rename(temporary, target)  # not replace: only an empty folder may give way
        finally:
            os.close(descriptor)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that end a run until the block is done."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _temporary(target: Path) -> Path:
    """A new name beside ``target``, after removing what killed runs left under such names."""
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    for left in target.parent.iterdir():
        if ours.fullmatch(left.name) and not _in_use(left):
            # What cannot be removed (in a shared folder, another user's) is in nobody's way.
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with suppress(OSError):
                    left.unlink()
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _in_use(path: Path) -> bool:
    """Whether another run is writing it: the kernel drops a run's lock when it dies."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True  # not ours to judge
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True  # locked, or on a file system without locks
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    # Where the file system has no locks, nobody can tell a dead run's file: it stays.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that cannot do it
            raise
    finally:
        os.close(descriptor)
