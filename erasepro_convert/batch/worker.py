"""Carrying out one job, in whatever process; every failure is returned as a result."""

import errno
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.batch.fingerprint import input_digests
from erasepro_convert.batch.ledger import Figures, Outcome, OutputRecord
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.conversion.preflight import require_workable
from erasepro_convert.errors import CheckpointError, LimitError, describe_error
from erasepro_convert.manifest import Manifest, VariesBetweenRuns, manifest_path, read_manifest
from erasepro_convert.manifest.erasure import largest_update
from erasepro_convert.manifest.signature import signature_path
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.runtime.stopwatch import Stopwatch
from erasepro_convert.storage.atomic import replacing
from erasepro_convert.storage.location import Location, file_name, is_within

DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class LinkCandidate:
    """An existing output, made with the same recipe from an input that is probably equal."""

    output: str
    path: Path
    input_sha256: tuple[str, ...]
    manifest_sha256: str


@dataclass(frozen=True)
class Task:
    """What a worker needs to carry out a job; ``output`` identifies the job.

    ``known_sha256`` are the digests of the input from which the existing output was made.
    """

    output: str
    recipe: Recipe
    source: Location
    target: Location
    options: Options
    known_sha256: tuple[str, ...] | None = None
    link_candidate: LinkCandidate | None = None


@dataclass(frozen=True)
class Result:
    """How a job ended; ``outcome`` is None where the existing output is still right.

    ``disk_full`` says that there was no room left to write to, ``worker_died`` that a worker ended
    before it could return a result.
    """

    outcome: Outcome | None
    seconds: float = 0.0
    worker: str = ""
    reason: str | None = None
    input_sha256: tuple[str, ...] | None = None
    written: OutputRecord | None = None
    figures: Figures | None = None
    same_as: str | None = None
    disk_full: bool = False
    worker_died: bool = False


def carry_out(task: Task, progress: Progress = silent) -> Result:
    """Convert, link an equal output, or find the existing output right.

    Raises nothing but KeyboardInterrupt.
    """
    stopwatch = Stopwatch()
    worker = f"{socket.gethostname()}:{os.getpid()}"

    def result(outcome: Outcome | None, **found: object) -> Result:
        return Result(outcome, stopwatch.seconds, worker, **found)  # type: ignore[arg-type]  # as they are named

    try:
        if isinstance(task.target, Path):
            task.target.parent.mkdir(parents=True, exist_ok=True)
        if task.known_sha256 or task.link_candidate:
            current = input_digests(task.source, progress)
            if current == task.known_sha256:
                return result(None, input_sha256=current)
            if task.link_candidate and current == task.link_candidate.input_sha256:
                varies = VariesBetweenRuns(started=stopwatch.started, seconds=stopwatch.seconds)
                if manifest := _link_output(task, task.link_candidate, varies):
                    equal = task.link_candidate.output
                    return result("linked", same_as=equal, **_written_fields(task, manifest))
        if task.options.folder and task.options.force and isinstance(task.target, Path):
            _remove_written_files(task.target)
        manifest = convert(task.recipe, task.source, task.target, task.options, progress)
        return result("done", **_written_fields(task, manifest))
    except LimitError as error:
        return result("exceeded", reason=str(error))
    except CheckpointError as error:
        return result("refused", reason=str(error))
    except Exception as error:  # a batch goes on whatever happens to one file
        disk_full = isinstance(error, OSError) and error.errno in DISK_FULL_ERRORS
        return result("failed", reason=describe_error(error), disk_full=disk_full)


def _written_fields(task: Task, manifest: Manifest) -> dict[str, object]:
    """Return the fields of a result that describe what was read and written."""
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
            relative_update=largest_update(manifest.all_edits),
        ),
    }


def _remove_written_files(folder: Path) -> None:
    """Remove the files of an earlier output folder, but keep files that others put there."""
    record = manifest_path(folder, folder=True)
    if not record.exists():
        return
    named = [folder / file.name for file in read_manifest(record).output.files]
    files = [file for file in named if is_within(file, folder)]  # a manifest may name any path
    for file in (*files, signature_path(folder, folder=True), record):
        file.unlink(missing_ok=True)
    for parent in sorted({file.parent for file in files} | {folder}, reverse=True):
        with suppress(OSError):  # not empty
            parent.rmdir()


def _link_output(task: Task, equal: LinkCandidate, varies: VariesBetweenRuns) -> Manifest | None:
    """Link an output of an equal input and recipe to this job's name, with its own manifest.

    Returns None where the other output has been replaced: another batch may have made it anew.
    The file is copied where the file system has no links.  A link is safe, since outputs are only
    ever replaced as a whole and never changed.
    """
    require_workable(task.source, task.target, task.options)
    made = read_manifest(manifest_path(equal.path))
    if made.manifest_sha256 != equal.manifest_sha256:
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
    if target.exists() and target.samefile(equal.path):
        with replacing(record) as (file,):  # renaming a link over one of the same file does nothing
            file.write(manifest.to_json().encode())
        return manifest
    with replacing(target, record) as (output, file):
        os.unlink(output.name)
        try:
            os.link(equal.path, output.name)
        except OSError:  # the file system has no links, or the file has too many
            shutil.copyfile(equal.path, output.name)
            with open(output.name, "rb") as copied:
                os.fsync(copied.fileno())
        file.write(manifest.to_json().encode())
    return manifest
