"""The main job, start to end: recipe and checkpoint in, erased checkpoint and manifest out."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic

from erasepro_convert.attempt import Attempt, Progress, attempt
from erasepro_convert.checkpoint import Checkpoint, FileHashes
from erasepro_convert.dtypes import OPTIONS, torch_dtype
from erasepro_convert.errors import CheckpointError, LimitError, UsageError
from erasepro_convert.limits import exceeded
from erasepro_convert.manifest import (
    ClipSkipFrom,
    Manifest,
    Output,
    Previous,
    VariesBetweenRuns,
    manifest_path,
    read_manifest,
)
from erasepro_convert.metadata import output_metadata
from erasepro_convert.options import Options, require_workable
from erasepro_convert.outputs import output_tensors
from erasepro_convert.recipe import Recipe
from erasepro_convert.record import Run, build_manifest, provenance
from erasepro_convert.release import Plan, rehearse, write_file, write_folder
from erasepro_convert.signature import signer
from erasepro_convert.source import Source, open_source
from erasepro_convert.tune import tune
from erasepro_convert.writer import OutputTensor


def convert(
    recipe: Recipe, source: Path, target: Path, options: Options, progress: Progress
) -> Manifest:
    """Erase the recipe's concepts from ``source``; write ``target`` and its manifest.

    Raises UsageError for paths that do not work out, RecipeError for prompts that do not fit,
    CheckpointError for a file that is not a sound SD1.x checkpoint, LimitError when the result
    does not hold.  After any of them nothing has been written.
    """
    started, clock = datetime.now(UTC), monotonic()
    require_workable(source, target, options)
    sign = signer(options.sign, options.certificate, options.chain) if options.sign else None
    opened = open_source(source, options.ema, options.text_encoder)
    recipe, clip_skip_from = _fed_as(recipe, opened, options.clip_skip)
    dtype = torch_dtype(OPTIONS[options.dtype]) if options.dtype else None
    with _examining(opened, progress) as examined:
        if options.tune or recipe.settings == "auto":
            result, tuning = tune(opened, recipe, dtype, progress)
        else:
            result, tuning = attempt(opened, recipe, dtype, progress), None
        copy = None
        if opened.layout.ema == "convert":
            copy = attempt(opened.of_ema(), result.recipe, dtype, progress).of_copy()
        hashes = examined.result()
    beyond = _beyond(result) + (_beyond(copy, "EMA copy: ") if copy else ())
    if beyond and not options.dry_run:
        raise LimitError("\n- ".join(("the result does not hold:", *beyond)))
    edits = result.edits | (copy.edits if copy else {})
    tensors = output_tensors(opened, edits, options.dtype)
    weights, others, left_out = _files(tensors, opened, target, options)
    run = Run(
        source=opened,
        hashes=hashes,
        result=result,
        copy=copy,
        tuning=tuning,
        clip_skip_from=clip_skip_from,
        dtype=options.dtype,
        previous=_previous(source, hashes),
        left_out=left_out,
    )
    metadata = output_metadata(
        opened.checkpoint.metadata,
        result.recipe,
        opened.layout.variant,
        base=source.stem,
        private=options.private,
        embedded=provenance(run) if options.embed_manifest else None,
    )
    plan = Plan(target.name, weights, others, metadata)

    def finish(output: Output) -> Manifest:
        varies = VariesBetweenRuns(
            started=started.isoformat(timespec="seconds"), seconds=round(monotonic() - clock, 3)
        )
        return build_manifest(run, output, beyond, varies)

    def report(done: int, total: int) -> None:
        progress("write", done, total)

    if options.dry_run:
        return rehearse(plan, finish, report)
    write = write_folder if options.folder else write_file
    return write(plan, target, finish, sign, report)


def _fed_as(recipe: Recipe, source: Source, asked: int | None) -> tuple[Recipe, ClipSkipFrom]:
    """The recipe for the ways in which this U-Net is fed, and what says so.

    Metadata adds its way to the recipe's: a UI may follow either.
    """
    if asked is not None:
        return recipe.changed(clip_skip=[asked]), "command line"
    stated = source.clip_skip
    if stated is None or stated in recipe.clip_skip:
        return recipe, "recipe"
    return recipe.changed(clip_skip=sorted({*recipe.clip_skip, stated})), "metadata"


def _beyond(result: Attempt, label: str = "") -> tuple[str, ...]:
    records = [edit.record for edit in result.edits.values()]
    return tuple(label + line for line in exceeded(result.recipe, result.probe, records))


def _files(
    tensors: list[OutputTensor], opened: Source, target: Path, options: Options
) -> tuple[dict[str, list[OutputTensor]], dict[str, bytes], dict[str, str]]:
    """Tensors by weight file, other files, and the tensors that the output has no place for."""
    if not options.folder:
        return {target.name: tensors}, {}, {}
    from erasepro_convert.diffusers_folder import by_file, configurations

    layout = opened.layout
    weights, left_out = by_file(tensors, layout.widths)
    return weights, configurations(layout.widths, layout.variant, opened.scheduler), left_out


def _previous(source: Path, hashes: tuple[FileHashes, ...]) -> Previous | None:
    """The manifest of an earlier erasure, where one lies beside the input and is true of it."""
    path = manifest_path(source, folder=source.is_dir())
    if not path.exists():
        return None
    try:
        manifest = read_manifest(path)
    except UsageError:
        return None  # somebody else's file of that name
    weights = {file.sha256 for file in manifest.output.files if file.autov3}
    if weights != {digests.sha256 for digests in hashes}:
        return None
    return Previous(
        name=path.name,
        manifest_sha256=manifest.manifest_sha256,
        recipe_sha256=manifest.recipe_sha256,
    )


@contextmanager
def _examining(source: Source, progress: Progress) -> Iterator[Future[tuple[FileHashes, ...]]]:
    """Check every tensor and hash every file beside the work of the block.

    Of two CheckpointErrors the check's is raised, since it names every damaged tensor.
    """
    over = Event()

    def report(stage: str, done: int, total: int) -> None:
        if over.is_set():
            raise CancelledError  # the block has failed: nobody waits for the rest
        progress(stage, done, total)

    def examine() -> tuple[FileHashes, ...]:
        source.require_finite(partial(report, "check"))
        return _hashes(source.checkpoint, report)

    with ThreadPoolExecutor(1) as beside:
        examined = beside.submit(examine)
        try:
            yield examined
        except CheckpointError:
            examined.result()
            raise
        finally:
            over.set()


def _hashes(checkpoint: Checkpoint, progress: Progress) -> tuple[FileHashes, ...]:
    hashes = []
    before = 0
    for file in checkpoint.files:
        start = before

        def report(done: int) -> None:
            progress("hash", start + done, checkpoint.size)  # noqa: B023  # called in this turn

        hashes.append(file.hashes(report))
        before += file.file.size
    return tuple(hashes)
