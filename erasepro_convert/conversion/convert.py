"""The main job, start to end: recipe and checkpoint in, erased checkpoint and manifest out."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint import FileHashes
from erasepro_convert.checkpoint.single_pass import SinglePass
from erasepro_convert.conversion.build_manifest import Run, build_manifest, provenance
from erasepro_convert.conversion.options import Options, outputs_of, require_workable
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.errors import CheckpointError, LimitError, UsageError
from erasepro_convert.manifest import (
    ClipSkipFrom,
    Manifest,
    Output,
    Previous,
    Tuning,
    VariesBetweenRuns,
    manifest_beside,
    manifest_path,
)
from erasepro_convert.manifest.safetensors_metadata import output_metadata
from erasepro_convert.manifest.signature import signer
from erasepro_convert.output.plan import output_tensors
from erasepro_convert.output.publish import Plan, rehearse, write_file, write_folder, write_object
from erasepro_convert.output.safetensors_writer import OutputTensor, in_order
from erasepro_convert.probing.limits import exceeded
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.dtypes import DTYPE_OPTIONS, DtypeOption, torch_dtype
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.keys import POSITION_IDS, UNET
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.storage.listing import is_folder
from erasepro_convert.storage.location import Location, checkpoint_stem, file_name

if TYPE_CHECKING:
    from torch import Tensor

    from erasepro_convert.conversion.erasure import Erasure


@dataclass(frozen=True)
class Erased:
    """What the erasure gave: the attempt, one on a kept EMA copy, and how the settings came."""

    result: "Erasure"
    copy: "Erasure | None"
    tuning: Tuning | None

    @property
    def weights(self) -> dict[str, "Tensor"]:
        """All edited weights by tensor name."""
        return self.result.weights | (self.copy.weights if self.copy else {})

    @property
    def beyond(self) -> tuple[str, ...]:
        """What is out of the recipe's limits."""
        return _beyond(self.result) + (_beyond(self.copy, "EMA copy: ") if self.copy else ())


def convert(
    recipe: Recipe,
    source: Location,
    target: Location,
    options: Options,
    progress: Progress,
    held: frozenset[str] | None = None,
) -> Manifest:
    """Erase the recipe's concepts from ``source``; write ``target`` and its manifest.

    Either can be in a store: see ``storage.locate``.  What is not edited is read, checked, hashed
    and written while the erasure goes on beside it.  ``held`` are targets that were erased from
    ``source`` before (None: that is found out).

    Raises UsageError for paths that do not work out, RecipeError for prompts that do not fit,
    CheckpointError for a file that is not a sound SD1.x checkpoint, LimitError when the result
    does not hold, StorageError when a store fails.  After any of them nothing has been written.
    """
    started, clock = datetime.now(UTC), monotonic()
    state = _training_state(recipe, target, options)
    inputs = require_workable(source, target, options, state)
    sign = signer(options.sign, options.certificate, options.chain) if options.sign else None
    opened = open_sd1_checkpoint(source, options.ema, options.text_encoder)
    recipe, clip_skip_from = _fed_as(recipe, opened, options.clip_skip)
    erase = partial(_erase, opened, recipe, options, state, source, held)
    with _beside(erase, progress, opened.checkpoint.give_up) as erasing:
        examination = SinglePass(opened.checkpoint, partial(progress, "hash"))
        if options.embed_manifest:
            examination.hashes()  # they go into the header, before everything else
        if options.tune or recipe.settings == "auto":
            recipe = erasing.result().result.recipe

        def run(left_out: Mapping[str, str]) -> Run:
            erased, hashes = erasing.result(), examination.hashes()
            return Run(
                source=opened,
                hashes=hashes,
                result=erased.result,
                copy=erased.copy,
                tuning=erased.tuning,
                clip_skip_from=clip_skip_from,
                dtype=options.dtype,
                previous=_previous(source, hashes),
                left_out=left_out,
            )

        edits = {
            name: partial(_weight, erasing, opened, options.dtype, name)
            for name in _edited(opened, recipe)
        }
        tensors = output_tensors(opened, examination.chunks, options.dtype, edits)
        weights, others, left_out = _files(tensors, opened, target, options)
        copied = [tensor for part in weights.values() for tensor in in_order(part)]
        read = [tensor.original[0] for tensor in copied if not tensor.late]
        examination.expect(
            [opened.layout.source[name] for name in read if name != POSITION_IDS],
            [opened.layout.source[name] for name in edits],
        )
        metadata = output_metadata(
            opened.metadata,
            recipe,
            opened.layout.variant,
            base=checkpoint_stem(file_name(source)),
            private=options.private,
            embedded=provenance(run(left_out)) if options.embed_manifest else None,
        )
        plan = Plan(file_name(target), weights, others, metadata)

        def finish(output: Output) -> Manifest:
            inputs.require_apart(*outputs_of(target, options))  # names can have moved meanwhile
            varies = VariesBetweenRuns(
                started=started.isoformat(timespec="seconds"), seconds=round(monotonic() - clock, 3)
            )
            return build_manifest(run(left_out), output, erasing.result().beyond, varies)

        def report(done: int, total: int) -> None:
            if erasing.done():
                erasing.result()  # after a failure there is no use in going on
            progress("write", done, total)

        try:
            if options.dry_run:
                return rehearse(plan, finish, report)
            if not isinstance(target, Path):
                return write_object(plan, target, finish, report)
            write = write_folder if options.folder else write_file
            manifest = write(plan, target, finish, sign, report)
            if state:
                state.unlink(missing_ok=True)
            return manifest
        except CheckpointError:
            opened.require_finite(partial(progress, "check"))  # names every damaged tensor
            raise


def _erase(
    source: SD1Checkpoint,
    recipe: Recipe,
    options: Options,
    state: Path | None,
    location: Location,
    held: frozenset[str] | None,
    progress: Progress,
) -> Erased:
    """Run the recipe.  Raises LimitError for what is beyond its limits, except in a dry run."""
    # Here, so that the writing does not wait for torch.
    from erasepro_convert.conversion.erasure import run_erasure
    from erasepro_convert.conversion.tuning import tune
    from erasepro_convert.probing.already_erased import claimed_erased, measured_erased
    from erasepro_convert.probing.limits import leaking_concepts

    dtype = torch_dtype(DTYPE_OPTIONS[options.dtype]) if options.dtype else None

    def run(held: frozenset[str]) -> tuple["Erasure", Tuning | None]:
        if options.tune or recipe.settings == "auto":
            return tune(source, recipe, dtype, progress, held)
        return run_erasure(source, recipe, dtype, progress, state=state, held=held), None

    if held is not None or recipe.training:
        known = held or frozenset()
        result, tuning = run(known)
    else:
        known = measured_erased(recipe, source, claimed_erased(recipe, source, location))
        result, tuning = run(known)
        # An earlier erasure that nothing tells of shows in what solving cannot reduce.
        if more := measured_erased(recipe, source, leaking_concepts(recipe, result.probe)) - known:
            known |= more
            result, tuning = run(known)
    copy = None
    if source.layout.ema == "convert":
        copied = run_erasure(source.with_ema_as_unet(), result.recipe, dtype, progress, held=known)
        copy = copied.of_copy()
    erased = Erased(result, copy, tuning)
    if erased.beyond and not options.dry_run:
        raise LimitError("\n- ".join(("the result does not hold:", *erased.beyond)))
    return erased


def _training_state(recipe: Recipe, target: Location, options: Options) -> Path | None:
    """Where a training keeps what it needs to go on; None where nothing is trained or written.

    Raises UsageError for options that training has no answer to.
    """
    if not recipe.training:
        return None
    if options.tune:
        raise UsageError(f"{recipe.method} is trained: --tune is for the closed forms")
    if options.ema == "convert":
        raise UsageError(f"{recipe.method} is trained: it edits no EMA copy; --ema drop or use")
    if options.dry_run or not isinstance(target, Path):
        return None
    from erasepro_convert.train.resume import state_path

    return state_path(target)


def _edited(source: SD1Checkpoint, recipe: Recipe) -> Iterator[str]:
    """The tensors that the recipe edits."""
    for name in edited_tensors(recipe, source.layout.widths):
        yield name
        if source.layout.ema == "convert" and name.startswith(UNET):
            yield ema_name(name)


def _weight(
    erasing: "Future[Erased]", source: SD1Checkpoint, option: DtypeOption | None, name: str
) -> "Tensor":
    """What is written of a matrix that the recipe edits: where nothing was new, as it was."""
    edited = erasing.result().weights.get(name)
    if edited is not None:
        return edited
    return source.read(name).to(torch_dtype(DTYPE_OPTIONS[option]) if option else None)


def _fed_as(
    recipe: Recipe, source: SD1Checkpoint, asked: int | None
) -> tuple[Recipe, ClipSkipFrom]:
    """The recipe for the ways in which this U-Net is fed, and what says so.

    Metadata adds its way to the recipe's: a UI may follow either.
    """
    if asked is not None:
        return recipe.changed(clip_skip=[asked]), "command line"
    stated = source.statements.clip_skip
    if stated is None or stated in recipe.clip_skip:
        return recipe, "recipe"
    return recipe.changed(clip_skip=sorted({*recipe.clip_skip, stated})), "metadata"


def _beyond(result: "Erasure", label: str = "") -> tuple[str, ...]:
    found = exceeded(result.recipe, result.probe, result.changes)
    return tuple(label + line for line in found)


def _files(
    tensors: list[OutputTensor], opened: SD1Checkpoint, target: Location, options: Options
) -> tuple[dict[str, list[OutputTensor]], dict[str, bytes], dict[str, str]]:
    """Tensors by weight file, other files, and the tensors that the output has no place for."""
    if not options.folder:
        return {file_name(target): tensors}, {}, {}
    from erasepro_convert.output.diffusers_folder import by_file, configurations

    layout = opened.layout
    weights, left_out = by_file(tensors, layout.widths)
    clip_skip = opened.statements.clip_skip or 1
    others = configurations(layout.widths, layout.variant, opened.scheduler, clip_skip)
    return weights, others, left_out


def _previous(source: Location, hashes: tuple[FileHashes | None, ...]) -> Previous | None:
    """The manifest of an earlier erasure, where one lies beside the input and is true of it."""
    if None in hashes:
        return None  # nothing can be true of what was not read
    manifest = manifest_beside(source)
    if manifest is None:
        return None
    weights = {file.sha256 for file in manifest.output.files if file.autov3}
    if weights != {digests.sha256 for digests in hashes if digests}:
        return None
    return Previous(
        name=file_name(manifest_path(source, folder=is_folder(source))),
        manifest_sha256=manifest.manifest_sha256,
        recipe_sha256=manifest.recipe_sha256,
    )


@contextmanager
def _beside(
    work: Callable[[Progress], Erased], progress: Progress, give_up: Callable[[], None]
) -> Iterator["Future[Erased]"]:
    """Do ``work`` in another thread while the block runs; what is left of it then is given up."""
    over = Event()

    def report(stage: str, done: int, total: int) -> None:
        if over.is_set():
            raise CancelledError
        progress(stage, done, total)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work, report)
        try:
            yield future
        finally:
            over.set()
            give_up()
