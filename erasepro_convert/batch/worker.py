"""One job, in whatever process it is done: everything that goes wrong comes back as a result."""

import errno
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.batch.fingerprint import digests
from erasepro_convert.batch.ledger import Figures, Outcome, OutputRecord
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.conversion.preflight import require_workable
from erasepro_convert.errors import CheckpointError, LimitError, describe_error
from erasepro_convert.manifest import Manifest, VariesBetweenRuns, manifest_path, read_manifest
from erasepro_convert.manifest.signature import signature_path
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.runtime.stopwatch import Stopwatch
from erasepro_convert.storage.atomic import replacing
from erasepro_convert.storage.location import Location, file_name, is_within

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Twin:
    """An output made with the same recipe from an input that is probably the same."""

    output: str
    path: Path
    input_sha256: tuple[str, ...]
    manifest_sha256: str


@dataclass(frozen=True)
class Task:
    """What a worker needs to know; ``output`` is what the job is called.

    ``known`` are the digests of the input for which the output that is there was made.
    """

    output: str
    recipe: Recipe
    source: Location
    target: Location
    options: Options
    known: tuple[str, ...] | None = None
    twin: Twin | None = None


@dataclass(frozen=True)
class Result:
    """What became of it; ``outcome`` is None where the output that was there still stands.

    ``full`` says that there was no room left to write to, ``died`` that a worker ended before it
    could say what it had done.
    """

    outcome: Outcome | None
    seconds: float = 0.0
    worker: str = ""
    reason: str | None = None
    input_sha256: tuple[str, ...] | None = None
    written: OutputRecord | None = None
    figures: Figures | None = None
    same_as: str | None = None
    full: bool = False
    died: bool = False


def carry_out(task: Task, progress: Progress = silent) -> Result:
    """Convert, or find that it need not be done.  Raises only when interrupted."""
    stopwatch = Stopwatch()
    worker = f"{socket.gethostname()}:{os.getpid()}"

    def result(outcome: Outcome | None, **found: object) -> Result:
        return Result(outcome, stopwatch.seconds, worker, **found)  # type: ignore[arg-type]  # as they are named

    try:
        if isinstance(task.target, Path):
            task.target.parent.mkdir(parents=True, exist_ok=True)
        if task.known or task.twin:
            there = digests(task.source, progress)
            if there == task.known:
                return result(None, input_sha256=there)
            if task.twin and there == task.twin.input_sha256:
                varies = VariesBetweenRuns(started=stopwatch.started, seconds=stopwatch.seconds)
                if manifest := _take_over(task, task.twin, varies):
                    return result("linked", same_as=task.twin.output, **_found(task, manifest))
        if task.options.folder and task.options.force and isinstance(task.target, Path):
            _clear(task.target)
        manifest = convert(task.recipe, task.source, task.target, task.options, progress)
        return result("done", **_found(task, manifest))
    except LimitError as error:
        return result("exceeded", reason=str(error))
    except CheckpointError as error:
        return result("refused", reason=str(error))
    except Exception as error:  # a batch goes on whatever happens to one file
        full = isinstance(error, OSError) and error.errno in NO_ROOM
        return result("failed", reason=describe_error(error), full=full)


def _found(task: Task, manifest: Manifest) -> dict[str, object]:
    read = [file.sha256 for file in manifest.input.files if file.sha256]
    return {
        "input_sha256": tuple(read) if len(read) == len(manifest.input.files) else None,
        "written": OutputRecord(
            size=sum(file.size for file in manifest.output.files),
            sha256=tuple(file.sha256 for file in manifest.output.files),
            manifest=file_name(manifest_path(task.target, folder=task.options.folder)),
            manifest_sha256=manifest.manifest_sha256,
        ),
        "figures": Figures(
            leak=max(measure.worst for measure in manifest.probe.leak),
            drift=max(measure.worst for measure in manifest.probe.drift),
            relative_update=max(edit.relative_update for edit in manifest.all_edits),
        ),
    }


def _clear(folder: Path) -> None:
    """Take away a folder that was written before, but for what others have put into it."""
    record = manifest_path(folder, folder=True)
    if not record.exists():
        return
    named = [folder / file.name for file in read_manifest(record).output.files]
    files = [file for file in named if is_within(file, folder)]  # whoever wrote the manifest
    for file in (*files, signature_path(folder, folder=True), record):
        file.unlink(missing_ok=True)
    for parent in sorted({file.parent for file in files} | {folder}, reverse=True):
        with suppress(OSError):  # not empty
            parent.rmdir()


def _take_over(task: Task, twin: Twin, varies: VariesBetweenRuns) -> Manifest | None:
    """Give an output of the same input and recipe this name as well, and a manifest that says so.

    None where something else has taken its place: another batch may have made it anew.
    It is linked where the file system can, else copied: an output is replaced, never changed, so
    that nothing happens to the one through the other.
    """
    require_workable(task.source, task.target, task.options)
    made = read_manifest(manifest_path(twin.path))
    if made.manifest_sha256 != twin.manifest_sha256:
        return None
    (read,), (wrote,) = made.input.files, made.output.files
    name, target = file_name(task.source), task.target
    assert isinstance(target, Path)
    files = (read.model_copy(update={"name": name}),)
    written = (wrote.model_copy(update={"name": target.name}),)
    changes = {
        "input": made.input.model_copy(update={"name": name, "files": files}),
        "output": made.output.model_copy(update={"name": target.name, "files": written}),
        "varies_between_runs": varies,
    }
    manifest = made.model_copy(update=changes).sealed()
    record = manifest_path(target)
    if target.exists() and target.samefile(twin.path):
        with replacing(record) as (file,):  # a link would not move over another of the same file
            file.write(manifest.to_json().encode())
        return manifest
    with replacing(target, record) as (output, file):
        os.unlink(output.name)
        try:
            os.link(twin.path, output.name)
        except OSError:  # not in this file system, or too many links
            shutil.copyfile(twin.path, output.name)
            with open(output.name, "rb") as copied:
                os.fsync(copied.fileno())
        file.write(manifest.to_json().encode())
    return manifest
