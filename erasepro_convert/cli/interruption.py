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


@contextmanager
def reporting_interruption(
    *outputs: "Location", kept: "Sequence[Path]" = (), advice: str = "run it again to go on"
) -> Iterator[None]:
    """Turn an interrupt of the block into a message about the files that it left.

    ``outputs`` are written when all is done.  ``kept`` are files and folders that another run
    reuses; ``advice`` says what to do with them.  Outputs in a store are not looked at.

    Raises InterruptedRunError where any of these files changed during the block.
    """
    local = [place for place in outputs if isinstance(place, Path)]
    before = {place: _file_states(place) for place in (*local, *kept)}
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        written, begun = (
            [str(place) for place in places if _file_states(place) != before[place]]
            for places in (local, kept)
        )
        if not written and not begun:
            raise
        parts = [f"wrote {', '.join(written)}"] if written else []
        parts += [f"what was done before lies in {', '.join(begun)}; {advice}"] if begun else []
        raise InterruptedRunError("; ".join(parts)) from None


def _file_states(place: Path) -> FileStates:
    """Return what changes with a file, or with any file in a folder."""
    files = [*place.rglob("*")] if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return frozenset((file, stat.st_ino, stat.st_mtime_ns) for file, stat in found)
