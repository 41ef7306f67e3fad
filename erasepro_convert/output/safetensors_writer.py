"""Write safetensors files: streamed, hashed on the way, deterministic, all or nothing.

Our own writer because the library's puts metadata in random order, needs every tensor in hand at
once, and neither syncs nor replaces atomically.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.runtime.background import Lane
from erasepro_convert.runtime.hashing import begin_tensor
from erasepro_convert.runtime.dtypes import BITS

SYNC_EVERY = 256 << 20
"""Bytes: left to itself the disk would begin when all else is done."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write; ``data`` gives its packed bytes, in pieces, when its turn comes.

    ``original`` is its name and shape in the original spelling, which its digest is made of.
    ``origin`` is where the same bytes lie in a file, if they do.  ``late`` ones come last of those
    as wide: their bytes are not known from the start.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    data: Callable[[], Iterator[memoryview]]
    original: tuple[str, tuple[int, ...]]
    origin: tuple[File, int] | None = None
    late: bool = False


class Output(Protocol):
    """What can be written to: a file, or an upload."""

    def write(self, content: bytes | memoryview, /) -> int:
        """Take all of it."""

    def flush(self) -> None:
        """Pass on what was taken."""


@dataclass(frozen=True)
class Written:
    """Size in bytes of a safetensors stream, its digest, and that of what follows its header.

    ``tensors`` has the digest of each tensor by its original name; ``head`` is all before them.
    """

    size: int
    sha256: str
    autov3: str
    tensors: dict[str, str]
    head: bytes = field(repr=False)


def stream(
    tensors: Sequence[OutputTensor],
    metadata: Mapping[str, str],
    output: Output,
    progress: Callable[[int, int], None],
) -> Written:
    """Write a safetensors file; ``progress`` gets bytes done and bytes in all.

    The widest dtypes come first, which keeps every tensor aligned, as the library has it; within
    them the order is the caller's, since reading a file from front to back is fastest.  Where the
    bytes lie in a file already the kernel copies them.
    """
    ordered = in_order(tensors)
    head = header(ordered, metadata)
    total = len(head) + sum(tensor.nbytes for tensor in ordered)
    whole, body = hashlib.sha256(head), hashlib.sha256()
    lanes = Lane(), Lane(), Lane()
    syncing, synced = Lane(), 0
    descriptor = output.fileno() if isinstance(output, io.BufferedWriter) else None
    on_disk = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
    output.write(head)
    done = len(head)
    digests = {}
    for tensor in ordered:
        end = done + tensor.nbytes
        name, shape = tensor.original
        own = digests[name] = begin_tensor(name, tensor.dtype, shape)
        for chunk in tensor.data() if tensor.nbytes else ():
            for lane, digest in zip(lanes, (whole, body, own), strict=True):
                lane.run(digest.update, chunk)
            copied = 0
            if tensor.origin and descriptor is not None:
                file, start = tensor.origin
                output.flush()
                copied = file.copy(start + tensor.nbytes - (end - done), len(chunk), descriptor)
            output.write(chunk[copied:])
            done += len(chunk)
            if descriptor is not None and on_disk and done - synced >= SYNC_EVERY:
                syncing.run(os.fsync, descriptor)
                synced = done
            progress(done, total)
        assert done == end, tensor.name
    for lane in (*lanes, syncing):
        lane.join()
    of_tensors = {name: own.hexdigest() for name, own in digests.items()}
    return Written(total, whole.hexdigest(), body.hexdigest(), of_tensors, head)


def in_order(tensors: Sequence[OutputTensor]) -> list[OutputTensor]:
    """Tensors as a file has them."""
    return sorted(tensors, key=lambda tensor: (-BITS[tensor.dtype], tensor.late))


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
        with uninterrupted():
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
        with uninterrupted():
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back the signals that end a run until the block is done.

    A mask would not do: while other threads are alive they take the signal, and what handles it
    runs in the main one all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled elsewhere
        return
    came: list[int] = []
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    held = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}
    for number in held:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


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
    try:  # not LOCK_EX, which NFS gives only to who may write
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
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
