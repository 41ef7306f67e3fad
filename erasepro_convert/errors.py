"""The errors a user can meet, each with the exit code that the command line promises.

A message says what is wrong, where, and what to do about it.  The library raises; the command
line catches once.
"""

import errno
import os
import traceback
from pathlib import Path

INTERRUPTED = 130
"""Exit code after an interrupt."""


class EraseproError(Exception):
    """Base of every error of this package."""

    exit_code = 1


class StorageError(EraseproError):
    """A store of objects, or the way to it, failed; the message holds no credentials."""


class MissingObjectError(StorageError):
    """A store has no object where a user says that one is."""

    exit_code = 2


class UsageError(EraseproError):
    """The command cannot be carried out as it was given (paths, existing output)."""

    exit_code = 2


class RecipeError(EraseproError):
    """The recipe is malformed or asks for something impossible."""

    exit_code = 2


class LimitError(EraseproError):
    """The result does not hold: nothing is written."""

    exit_code = 3


class CheckpointError(EraseproError):
    """The checkpoint is not SD1.x, is broken, or names code that we do not know."""

    exit_code = 4


class VerificationError(EraseproError):
    """An output is not what its manifest says."""

    exit_code = 5


class InterruptedRunError(EraseproError):
    """An interrupted run has left something; the message says what, and what another run does."""

    exit_code = INTERRUPTED


class BatchError(EraseproError):
    """Not every file of a batch was done; the code is that of the worst that happened."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_USERS = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "this user may not read or write it",
    errno.EPERM: "this user may not read or write it",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EROFS: "lies where nothing can be written",
}
"""What is wrong with a path that a user gave, by the system's number for it."""

_MACHINES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EFBIG: "is larger than a file may be here",
    errno.EIO: "the disk cannot read or write it",
    errno.EMFILE: "too many files are open",
}
"""What broke."""


def exit_code_of(error: OSError) -> int:
    """2 for a path that does not work out, 1 for what broke."""
    return UsageError.exit_code if error.filename and error.errno in _USERS else 1


def reason_of(error: Exception) -> str:
    """What happened, and where in the code for what is no word of ours."""
    if isinstance(error, OSError) and error.errno is not None:
        if not error.filename:  # what is wrong with a path says nothing without it
            return _MACHINES.get(error.errno) or str(error.strerror)
        words = (_USERS | _MACHINES).get(error.errno) or error.strerror
        return f"{os.fsdecode(error.filename)}: {words}"
    if isinstance(error, EraseproError | OSError):
        return str(error)
    what = "".join(traceback.format_exception_only(error)).strip()
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{what} ({Path(place.filename).name}, line {place.lineno})"
