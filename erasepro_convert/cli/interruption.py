"""What is true of a command that was interrupted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.errors import InterruptedRunError

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location

Stamp = frozenset[tuple[Path, int, int]]


@contextmanager
def telling(
    *outputs: "Location", kept: "Sequence[Path]" = (), again: str = "run it again to go on"
) -> Iterator[None]:
    """Have an interrupt of the block say what it has left.

    ``outputs`` are written when all is done; ``kept`` are files and folders from which another run
    goes on, as ``again`` says.  What is elsewhere than here is not looked at.

    Raises InterruptedRunError where any of these is another one than before the block.
    """
    here = [place for place in outputs if isinstance(place, Path)]
    before = {place: _stamp(place) for place in (*here, *kept)}
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        written, begun = (
            [str(place) for place in places if _stamp(place) != before[place]]
            for places in (here, kept)
        )
        if not written and not begun:
            raise
        said = [f"wrote {', '.join(written)}"] if written else []
        said += [f"what was done before lies in {', '.join(begun)}; {again}"] if begun else []
        raise InterruptedRunError("; ".join(said)) from None


def _stamp(place: Path) -> Stamp:
    """What changes with a file, or with any file in a folder."""
    files = [*place.rglob("*")] if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return frozenset((file, stat.st_ino, stat.st_mtime_ns) for file, stat in found)
