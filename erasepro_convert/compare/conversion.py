"""A conversion in a process of its own, so that its time and memory can be measured."""

import json
import signal
import sys
from dataclasses import asdict, dataclass
from math import hypot, prod
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from time import monotonic

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError, describe_error
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.manifest.names_beside import COST
from erasepro_convert.output.destinations import Inputs, put
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.memory import configure_allocator
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.storage.location import sibling
from erasepro_convert.verification.against_manifest import verify_files

REPORT_INTERVAL = 0.2
"""Seconds between reports of progress."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a run."""


@dataclass(frozen=True)
class Cost:
    """What a method's conversion cost, and how much it changed.

    ``peak`` is the most memory of its process, in bytes.  ``parameters`` counts the numbers that
    it was free to change, and ``relative_update`` is ‖ΔW‖ / ‖W‖ over all of them.
    """

    seconds: float
    peak: int
    parameters: int
    relative_update: float


def convert_measured(recipe: Recipe, source: Path, target: Path, progress: Progress) -> Cost:
    """Convert and measure the cost, unless an earlier run made this very conversion.

    Raises UsageError with the reason where the conversion failed, and where a file that no
    comparison made is in the way.
    """
    cost_file = sibling(target, COST)
    earlier = _earlier_manifest(recipe, source, target)
    if earlier and cost_file.exists():
        return Cost(**json.loads(cost_file.read_text("utf-8")))
    if target.exists() and not earlier and not cost_file.exists():
        raise UsageError(
            f"{target}: exists, and no comparison made it; remove it, or name another --out"
        )
    own_end, child_end = get_context("spawn").Pipe()
    child = get_context("spawn").Process(
        target=_convert_in_child, args=(child_end, recipe, source, target)
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child can handle them
    try:
        child.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    child_end.close()
    try:
        seconds, peak = _follow(own_end, progress)
    finally:
        child.join(1)
        child.terminate()  # it still runs where this process was interrupted
        child.join()
    manifest = read_manifest(manifest_path(target))
    norm = hypot(*(edit.norm for edit in manifest.all_edits))
    cost = Cost(
        seconds=round(seconds, 2),
        peak=peak,
        parameters=sum(prod(edit.shape) for edit in manifest.all_edits),
        relative_update=hypot(*(edit.update_norm for edit in manifest.all_edits)) / (norm or 1.0),
    )
    put(cost_file, (json.dumps(asdict(cost)) + "\n").encode(), Inputs([source]))
    return cost


def _earlier_manifest(recipe: Recipe, source: Path, target: Path) -> Manifest | None:
    """Return the manifest of this very conversion, where its output is there unchanged."""
    path = manifest_path(target)
    if not (target.exists() and path.exists()):
        return None
    try:
        manifest = read_manifest(path)
    except UsageError:
        return None  # the conversion is repeated
    input_digests = [file.sha256 for file in manifest.input.files]
    is_same_conversion = (
        _is_from_recipe(manifest, recipe)
        and input_digests == [file.hashes().sha256 for file in open_checkpoint(source).files]
        and not any(verify_files(manifest, target))
    )
    return manifest if is_same_conversion else None


def _is_from_recipe(manifest: Manifest, recipe: Recipe) -> bool:
    """Whether this recipe led to a manifest.

    The recipe in the manifest may differ: the input's metadata can add to clip skip, and synonyms
    that are found in it are concepts of their own.
    """
    if manifest.variant.clip_skip_from == "metadata":
        recipe = recipe.changed(clip_skip=manifest.recipe.clip_skip)
    if recipe.asks_for_synonyms:
        recipe = recipe.changed(concepts=manifest.recipe.model_dump()["concepts"])
    return manifest.recipe_sha256 == recipe.digest


def _follow(connection: Connection, progress: Progress) -> tuple[float, int]:
    """Pass on the child's progress until it is done; return its seconds and its peak memory."""
    while True:
        try:
            kind, *values = connection.recv()
        except EOFError as error:
            raise UsageError("its process died") from error
        if kind == "failed":
            raise UsageError(values[0])
        if kind == "done":
            return values[0], values[1]
        progress(*values)


def _convert_in_child(connection: Connection, recipe: Recipe, source: Path, target: Path) -> None:
    """Convert in the child process; only the parent handles SIGINT, and ends the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    configure_allocator()
    lock, last, started = Lock(), 0.0, monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        with lock:
            if monotonic() - last >= REPORT_INTERVAL:
                last = monotonic()
                connection.send(("progress", stage, done, total))

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        convert(recipe, source, target, Options(force=True), report)
    except KeyboardInterrupt:
        return  # the conversion has cleaned up
    except Exception as error:  # the comparison continues without this method
        connection.send(("failed", describe_error(error)))
        return
    connection.send(("done", monotonic() - started, _peak_memory()))


def _peak_memory() -> int:
    """Return the most memory that this process held, in bytes.

    Linux has a better source than getrusage: there getrusage's peak outlives exec, so that it may
    be the parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text("ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
