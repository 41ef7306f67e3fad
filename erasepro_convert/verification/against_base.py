"""Verification against the original checkpoint: what was touched, every figure, the same again."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import hypot, isclose
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.erasure import measure_erasure
from erasepro_convert.conversion.options import Options
from erasepro_convert.manifest import Change, EditRecord, Manifest
from erasepro_convert.manifest.safetensors_metadata import EMBEDDED
from erasepro_convert.output.output_tensors import output_tensors
from erasepro_convert.runtime.dtypes import DTYPE_OPTIONS, torch_dtype
from erasepro_convert.runtime.hashing import tensor_digest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.keys import UNET
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.storage.location import Location, file_name
from erasepro_convert.verification.finding import Finding, differs

TRAINED = 0.1
"""Relative deviation of a training's whole update norm that another processor may cause.

``benchmarks/replay.py`` measures it: 0.06 at most.  Single tensors' may be several times as large.
"""

FIRST_LOSS = 0.25
"""Of the loss of its first step: 0.08 at most, of AC, whose anchors are drawn before it.

It hangs on the seed, as the update's norm hardly does.
"""


def verify_input(manifest: Manifest, base: SD1Checkpoint) -> Iterator[Finding]:
    """Whether the original is the one that was read."""
    files = base.checkpoint.files
    for recorded, file in zip_longest(manifest.input.files, files):
        name = recorded.name if recorded else file.name
        if recorded and file and recorded.sha256 is None:  # it was not read whole
            if recorded.size != file.file.size:
                yield Finding("base", name, str(recorded.size), str(file.file.size), "size")
            continue
        found = file.hashes().sha256 if file else "missing"
        expected = str(recorded.sha256) if recorded else "not there"
        if expected != found:
            yield Finding("base", name, expected, found, "SHA-256")


def verify_unedited(
    manifest: Manifest, base: SD1Checkpoint, found: Mapping[str, str]
) -> Iterator[Finding]:
    """Whether exactly the tensors that were changed differ from the original's.

    What was not must be bit-identical, or cast where another type was asked for.
    """
    changed = {edit.name for edit in manifest.all_edits if edit.changed}
    names = base.checkpoint.in_order(set(base.layout.source.values()))
    chunks = base.checkpoint.prefetching(names)
    for tensor in output_tensors(base, chunks, manifest.tensors.dtype, {}):
        name, shape = tensor.original
        if name not in found:
            continue
        values = tensor.data() if tensor.nbytes else ()
        same = tensor_digest(name, tensor.dtype, shape, values) == found[name]
        if same and name in changed:
            yield Finding("untouched", name, "edited", "as in the original")
        if not same and name not in changed:
            yield Finding("untouched", name, "as in the original", "another one")


def verify_figures(
    manifest: Manifest, base: SD1Checkpoint, output: SD1Checkpoint, progress: Progress
) -> Iterator[Finding]:
    """Every norm, residual, leak and drift, computed anew from the two files."""
    recipe = manifest.recipe
    dtype = torch_dtype(DTYPE_OPTIONS[manifest.tensors.dtype]) if manifest.tensors.dtype else None
    held = frozenset(manifest.alignment.held)
    measured = measure_erasure(
        base,
        recipe,
        dtype,
        progress,
        output.read,
        held=held,
        single_encoder=_has_single(manifest.edits),
    )
    records = [edit.record for edit in measured.edits.values()]
    yield from _of_records(manifest.edits, records)
    trained = (side.changes if side else () for side in (manifest.trained, measured.trained))
    yield from _of_records(*trained)
    yield from _of_parts("probe", manifest.probe, measured.probe)
    yield from _of_parts("alignment", manifest.alignment, measured.aligned.record)
    if manifest.ema and output.layout.ema == "convert":  # a copy may lack it
        edited = _of_copy(output.read)
        copy = measure_erasure(
            base.with_ema_as_unet(),
            recipe,
            dtype,
            progress,
            edited,
            held=held,
            single_encoder=_has_single(manifest.ema.edits),
        ).of_copy()
        records = [edit.record for edit in copy.edits.values()]
        yield from _of_records(manifest.ema.edits, records)
        yield from _of_parts("ema.probe", manifest.ema.probe, copy.probe)


def _has_single(edits: Sequence[EditRecord]) -> bool:
    """Whether somebody asked for the updates that each text encoder alone would need."""
    return any(edit.single_encoder_update for edit in edits)


def _of_copy(read: ReadTensor) -> ReadTensor:
    return lambda name: read(ema_name(name) if name.startswith(UNET) else name)


def _of_records(expected: Sequence[Change], found: Sequence[Change]) -> Iterator[Finding]:
    ours = {edit.name: edit for edit in found}
    theirs = {edit.name: edit for edit in expected}
    for name in sorted(theirs.keys() - ours.keys()):
        yield Finding("figure", name, "not edited by this recipe", "edited")
    for name in sorted(ours.keys() - theirs.keys()):
        yield Finding("figure", name, "edited by this recipe", "not recorded")
    for name, edit in theirs.items():
        if name in ours:
            yield from _of_parts(name, edit, ours[name])


def _of_parts(name: str, recorded: BaseModel, computed: BaseModel) -> Iterator[Finding]:
    """Each field of a record that deviates; what is recorded is what was found."""
    theirs, ours = recorded.model_dump(mode="json"), computed.model_dump(mode="json")
    for field in theirs:
        if differs(ours[field], theirs[field]):
            yield Finding("figure", name, str(ours[field]), str(theirs[field]), field)


def verify_replay(
    manifest: Manifest, base: Location, text_encoder: "Location | None", progress: Progress
) -> Iterator[Finding]:
    """Whether the recipe gives the same tensors again.  Raises what ``convert`` does."""
    options = Options(
        dtype=manifest.tensors.dtype,
        ema=manifest.variant.ema or "drop",
        text_encoder=text_encoder,
        folder=len(manifest.output.files) > 1,
        embed_manifest=EMBEDDED in manifest.output.metadata,
        private="erasepro.concepts" not in manifest.output.metadata,
        dry_run=True,
    )
    held = frozenset(manifest.alignment.held)
    with TemporaryDirectory() as nowhere:  # no file of the user's can be in its place
        target = Path(nowhere) / file_name(Path(manifest.output.name))
        replayed = convert(manifest.recipe, base, target, options, progress, held=held)
    recorded, again = manifest.output, replayed.output
    trained = {edit.name for edit in manifest.all_edits} if manifest.trained else set()
    for name in sorted(recorded.tensors.keys() | again.tensors.keys()):
        theirs, ours = recorded.tensors.get(name), again.tensors.get(name)
        if theirs == ours or name in trained:
            continue
        digests = (tensor.sha256 if tensor else "not there" for tensor in (ours, theirs))
        yield Finding("replay", name, *digests)
    if manifest.trained and replayed.trained:
        yield from _of_training(manifest, replayed)
        return  # files differ where a tensor does
    if file_name(base) == manifest.input.name and recorded.files != again.files:
        # The title names the input: under another name the header is another one.
        yield Finding("replay", recorded.name, "the same files", "others")


def _of_training(recorded: Manifest, again: Manifest) -> Iterator[Finding]:
    """Whether a training went about as far, from the same beginning."""
    norms = [hypot(*(edit.update_norm for edit in one.all_edits)) for one in (again, recorded)]
    if not isclose(*norms, rel_tol=TRAINED):
        yield Finding("replay", "update_norm of all that is trained", *map(str, norms))
    losses = [one.trained.losses[0] for one in (again, recorded) if one.trained]
    if not isclose(*losses, rel_tol=FIRST_LOSS):
        yield Finding("replay", "loss of the first step", *map(str, losses))
