"""The message of an interrupted command: which files it wrote, and what a later run reuses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.errors import InterruptedRunError

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location

FileStates = frozenset[tuple[Path, int, int]]
"""Path, inode, and time of change in nanoseconds."""


@contextmanager
def reporting_interruption(
    *outputs: "Location", kept: "Sequence[Path]" = (), advice: str = "run it again to continue"
) -> Iterator[None]:
    """Turn an interrupt of the block into a message about the files that it left.

    ``outputs`` are written when all is done.  ``kept`` are files and folders that another run
    reuses; ``advice`` says what to do with them.  Outputs in a store are not checked.

    Where the block is interrupted, raises InterruptedRunError if any of these files changed;
    otherwise the interrupt passes through.
    """
    local = [place for place in outputs if isinstance(place, Path)]
    before = {place: _file_states(place) for place in (*local, *kept)}
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        written, changed_kept = (
            [str(place) for place in places if _file_states(place) != before[place]]
            for places in (local, kept)
        )
        if not written and not changed_kept:
            raise
        parts = [f"wrote {', '.join(written)}"] if written else []
        parts += (
            [f"what was done before lies in {', '.join(changed_kept)}; {advice}"]
            if changed_kept
            else []
        )
        raise InterruptedRunError("; ".join(parts)) from None


def _file_states(place: Path) -> FileStates:
    """Return values that differ once the file, or any file in the folder, has changed."""
    files = [*place.rglob("*")] if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return frozenset((file, stat.st_ino, stat.st_mtime_ns) for file, stat in found)
