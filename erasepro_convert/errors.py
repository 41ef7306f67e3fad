"""The errors that a user can meet, each with the exit code that the command line promises.

A message says what is wrong, where it is, and what to do about it.  The library raises these
errors, and the command line catches them in one place.
"""

import errno
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erasepro_convert.manifest.verdict import Verdict

INTERRUPTED = 130
"""The exit code after an interrupt."""


class EraseproError(Exception):
    """The base class of every error that this package raises."""

    exit_code = 1


class StorageError(EraseproError):
    """An object store, or the connection to it, failed; the message holds no credentials."""


class MissingObjectError(StorageError):
    """An object store has no object at the address that the user gave."""

    exit_code = 2


class UsageError(EraseproError):
    """The command cannot be carried out as it was given (paths, existing output)."""

    exit_code = 2


class RecipeError(EraseproError):
    """The recipe is malformed or asks for something impossible."""

    exit_code = 2


class LimitError(EraseproError):
    """The result exceeds a limit of the recipe, so nothing is written.

    ``verdict`` shows each measure beside its limit, where the result was measured.
    """

    exit_code = 3

    def __init__(self, message: str, verdict: "Verdict | None" = None) -> None:
        super().__init__(message)
        self.verdict = verdict


class CheckpointError(EraseproError):
    """The checkpoint is not SD1.x, is broken, or names code that is not known to be harmless."""

    exit_code = 4


class VerificationError(EraseproError):
    """An output differs from what its manifest says."""

    exit_code = 5


class InterruptedRunError(EraseproError):
    """A run was interrupted and left something; the message says what, and what a rerun does."""

    exit_code = INTERRUPTED


class BatchError(EraseproError):
    """Some files of a batch failed; the exit code is that of the worst failure."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_PATH_PROBLEMS = {
    errno.ENOENT: "there is no such file",
    errno.EEXIST: "is there already, and is no folder",
    errno.EACCES: "this user may not read or write it",
    errno.EPERM: "this user may not read or write it",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EROFS: "lies where nothing can be written",
}
"""What is wrong with a path that a user gave, by errno."""

_SYSTEM_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EFBIG: "is larger than a file may be here",
    errno.EIO: "the disk cannot read or write it",
    errno.EMFILE: "too many files are open",
}
"""What failed in the system, by errno."""


def exit_code_of(error: OSError) -> int:
    """Return 2 for a path that the user can correct, and 1 for any other failure."""
    return UsageError.exit_code if error.filename and error.errno in _PATH_PROBLEMS else 1


def describe_error(error: Exception) -> str:
    """Say what happened, and for an unforeseen error also where in the code."""
    if isinstance(error, OSError) and error.errno is not None:
        if not error.filename:  # a problem with a path means little without the path
            return _SYSTEM_PROBLEMS.get(error.errno) or str(error.strerror)
        problem = (_PATH_PROBLEMS | _SYSTEM_PROBLEMS).get(error.errno) or error.strerror
        return f"{os.fsdecode(error.filename)}: {problem}"
    if isinstance(error, EraseproError | OSError):
        return str(error)
    message = "".join(traceback.format_exception_only(error)).strip()
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{message} ({Path(place.filename).name}, line {place.lineno})"
