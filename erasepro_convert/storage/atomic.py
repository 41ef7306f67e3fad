"""Write files and folders on a disk that appear complete, in one step, or not at all."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from erasepro_convert.runtime.signals import uninterrupted


@contextmanager
def replacing(*targets: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files that replace ``targets`` when the block succeeds.

    Until then they lie beside the targets under temporary names.  After a failure or an interrupt
    they are removed and the targets are unchanged.  All files are on the disk before the first is
    moved, no signal is handled between the moves, and where one fails those before it are undone.
    Temporary files of killed runs are removed first.
    """
    with _temporary_files(targets) as files:
        yield files
        for file in files:
            sync(file)
        with uninterrupted():
            _move(files, targets)
    _sync_folders(targets)


@contextmanager
def replacing_folder(target: Path, *beside: Path) -> Iterator[tuple[Path, tuple[BinaryIO, ...]]]:
    """Make a folder to fill, which takes the place of ``target`` when the block succeeds.

    ``target`` must be an empty folder or not exist.  The block must ``sync`` each file that it
    writes into the folder.  Files that replace ``beside`` are opened too, and appear with it.
    After a failure or an interrupt the folder and these files are removed.
    """
    temporary = _temporary(target)
    try:
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            with _locked(descriptor), _temporary_files(beside) as files:
                yield temporary, files
                for folder in (*(p for p in temporary.rglob("*") if p.is_dir()), temporary):
                    _sync_folder(folder)
                for file in files:
                    sync(file)
                with uninterrupted():
                    os.rename(temporary, target)  # not replace: only an empty folder may give way
                    try:
                        _move(files, beside)
                    except BaseException:
                        os.rename(target, temporary)
                        raise
        finally:
            os.close(descriptor)
    except BaseException:
        with uninterrupted():
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folders((target, *beside))


def sync(file: BinaryIO) -> None:
    """Flush a file's content to the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _temporary_files(targets: Sequence[Path]) -> Iterator[tuple[BinaryIO, ...]]:
    """Open a file beside each target, under a temporary name; a failed block leaves none."""
    temporaries = [_temporary(target) for target in targets]
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(open(path, "xb")) for path in temporaries)
            for file in files:
                stack.enter_context(_locked(file.fileno()))
            yield files
    except BaseException:
        with uninterrupted():
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)
        raise


def _move(files: Sequence[BinaryIO], targets: Sequence[Path]) -> None:
    """Move files to their targets, all or none."""
    with ExitStack() as after, ExitStack() as undo:
        for file, target in zip(files, targets, strict=True):
            if len(targets) > 1:
                undo.callback(_restorer(target, after))
            os.replace(file.name, target)
        undo.pop_all()


def _restorer(target: Path, after: ExitStack) -> Callable[[], None]:
    """Return what puts back the file that is at a target now, or removes the one that comes there.

    Until ``after`` is left, the file has a second name.  On a file system without hard links it has
    none, and what comes there stays.
    """
    if not os.path.lexists(target):
        return partial(target.unlink, missing_ok=True)
    kept = _temporary(target)
    try:
        os.link(target, kept, follow_symlinks=False)
    except OSError:
        return _do_nothing
    after.callback(partial(kept.unlink, missing_ok=True))
    return partial(os.replace, kept, target)


def _do_nothing() -> None:
    """Undo nothing."""


def _temporary(target: Path) -> Path:
    """Return a temporary name beside ``target``; remove what killed runs left under such names."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name) and not _in_use(path):
            # What cannot be removed (another user's file in a shared folder) does no harm.
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _in_use(path: Path) -> bool:
    """Whether another run is writing ``path``.  The kernel drops a run's lock when the run dies."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True  # it cannot be told, so it is left alone
    try:  # a shared lock: NFS gives an exclusive one only to those who may write
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True  # locked, or on a file system without locks
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    # Without locks in the file system a dead run's file cannot be told from a live one's: it stays.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield


def _sync_folders(targets: Sequence[Path]) -> None:
    for folder in {target.parent for target in targets}:
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # a file system that cannot do it
            raise
    finally:
        os.close(descriptor)
