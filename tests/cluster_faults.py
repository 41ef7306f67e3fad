"""What befalls workers of a cluster, by the name of the output; they load it with --preload."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from erasepro_convert.batch import worker as work
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.manifest import Manifest
from erasepro_convert.output import staging
from erasepro_convert.output.safetensors_writer import WeightFile, Written, stream
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress

GO = "go"
"""A file beside outputs: those that are held go on when it is there."""


def stream_faulty(
    file: WeightFile, output: BinaryIO, progress: Callable[[int, int], None], **asked: Any
) -> Written:
    """Write a file, unless it is ``deadly``; what is ``held`` says who holds it and waits."""
    place = Path(output.name)
    if "deadly" in place.name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "held" in place.name:
        output.write(b"half of a file")
        output.flush()
        place.with_name(f"pid-{os.getpid()}").touch()
        while not place.with_name(GO).exists():
            progress(0, 1)
            time.sleep(0.05)
        output.seek(0)
    return stream(file, output, progress, **asked)


def convert_faulty(
    recipe: Recipe, source: Path, target: Path, options: Options, progress: Progress
) -> Manifest:
    """Convert; what comes ``late`` is finished once before its worker can say so."""
    manifest = convert(recipe, source, target, options, progress)
    if "late" in target.name and not list(target.parent.glob("pid-*")):
        target.with_name(f"pid-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return manifest


def dask_setup(worker: object) -> None:
    """Called in a worker that loads this; a test that merely imports it stays whole."""
    work.convert = convert_faulty  # type: ignore  # not for others, this once
    staging.stream = stream_faulty  # type: ignore  # the same
