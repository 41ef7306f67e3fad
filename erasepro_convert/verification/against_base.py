"""Verification against the original checkpoint: which tensors changed, and every figure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.conversion.erasure import measure_erasure
from erasepro_convert.manifest import Change, EditRecord, Manifest
from erasepro_convert.output.output_tensors import output_tensors
from erasepro_convert.runtime.dtypes import option_dtype
from erasepro_convert.runtime.hashing import tensor_digest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.keys import UNET
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.verification.finding import FIGURE_TOLERANCE, Finding, differs

ROUNDED = {"rank": 0.05, "condition": 0.9, "calibration": 0.45}
"""Relative deviations of what float32 features decide where a matrix is calibrated: which singular
values are more than rounding, and which of two neighbours on the grid of ε (a step is a factor of
1.8) is better."""


def verify_input(manifest: Manifest, base: SD1Checkpoint) -> Iterator[Finding]:
    """Check that the original is the file that the conversion read."""
    files = base.checkpoint.files
    for recorded, file in zip_longest(manifest.input.files, files):
        name = recorded.name if recorded else file.name
        if recorded and file and recorded.sha256 is None:  # a part of it was never read
            if recorded.size != file.file.size:
                yield Finding("base", name, str(recorded.size), str(file.file.size), "size")
            continue
        found = file.hashes().sha256 if file else "missing"
        expected = str(recorded.sha256) if recorded else "not there"
        if expected != found:
            yield Finding("base", name, expected, found, "SHA-256")


def verify_unedited(
    manifest: Manifest, base: SD1Checkpoint, output_digests: Mapping[str, str]
) -> Iterator[Finding]:
    """Check that exactly the tensors recorded as changed differ from the original's.

    All others must be bit-identical, or cast where the conversion stored another type.
    ``output_digests`` are of the output's tensors, by original name.
    """
    changed = {edit.name for edit in manifest.all_edits if edit.changed}
    names = base.checkpoint.in_order(set(base.layout.source.values()))
    chunks = base.checkpoint.prefetching(names)
    for tensor in output_tensors(base, chunks, manifest.tensors.dtype, {}):
        name, shape = tensor.original
        if name not in output_digests:
            continue
        values = tensor.data() if tensor.nbytes else ()
        digest = tensor_digest(name, tensor.dtype, shape, values, manifest.output.algorithm)
        is_equal = digest == output_digests[name]
        if is_equal and name in changed:
            yield Finding("untouched", name, "edited", "as in the original")
        if not is_equal and name not in changed:
            yield Finding("untouched", name, "as in the original", "another one")


def verify_figures(
    manifest: Manifest, base: SD1Checkpoint, output: SD1Checkpoint, progress: Progress
) -> Iterator[Finding]:
    """Compute every figure anew from the two files: norms, residuals, leak, drift and reach."""
    recipe = manifest.recipe
    dtype = option_dtype(manifest.tensors.dtype)
    already_erased = frozenset(manifest.alignment.held)
    measured = measure_erasure(
        base,
        recipe,
        dtype,
        progress,
        output.read,
        already_erased=already_erased,
        single_encoder=_has_single_encoder_updates(manifest.edits),
    )
    records = [edit.record for edit in measured.edits.values()]
    yield from _compare_records(manifest.edits, records)
    trained = (side.changes if side else () for side in (manifest.trained, measured.trained))
    yield from _compare_records(*trained)
    yield from _compare_fields("probe", manifest.probe, measured.probe)
    yield from _compare_fields("alignment", manifest.alignment, measured.aligned.record)
    if manifest.ema and output.layout.ema == "convert":  # a copy of the output may lack the EMA
        edited = _read_ema(output.read)
        copy = measure_erasure(
            base.with_ema_as_unet(),
            recipe,
            dtype,
            progress,
            edited,
            already_erased=already_erased,
            single_encoder=_has_single_encoder_updates(manifest.ema.edits),
        ).as_ema_copy()
        records = [edit.record for edit in copy.edits.values()]
        yield from _compare_records(manifest.ema.edits, records)
        yield from _compare_fields("ema.probe", manifest.ema.probe, copy.probe)


def _has_single_encoder_updates(edits: Sequence[EditRecord]) -> bool:
    """Whether somebody asked for the updates that each text encoder alone would need."""
    return any(edit.single_encoder_update for edit in edits)


def _read_ema(read: ReadTensor) -> ReadTensor:
    """Return a reader that gives the EMA copy in place of the U-Net."""
    return lambda name: read(ema_name(name) if name.startswith(UNET) else name)


def _compare_records(recorded: Sequence[Change], computed: Sequence[Change]) -> Iterator[Finding]:
    """Compare recorded edits with computed ones, tensor by tensor."""
    computed_by_name = {edit.name: edit for edit in computed}
    recorded_by_name = {edit.name: edit for edit in recorded}
    for name in sorted(recorded_by_name.keys() - computed_by_name.keys()):
        yield Finding("figure", name, "not edited by this recipe", "edited")
    for name in sorted(computed_by_name.keys() - recorded_by_name.keys()):
        yield Finding("figure", name, "edited by this recipe", "not recorded")
    for name, edit in recorded_by_name.items():
        if name in computed_by_name:
            yield from _compare_fields(name, edit, computed_by_name[name])


def _compare_fields(name: str, recorded: BaseModel, computed: BaseModel) -> Iterator[Finding]:
    """Compare a record field by field; in a finding, the recorded value is the one found.

    Fields that an older manifest lacks are not compared.
    """
    recorded_values, values = recorded.model_dump(mode="json"), computed.model_dump(mode="json")
    is_calibrated = recorded_values.get("calibration") is not None
    for field, recorded_value in recorded_values.items():
        value: Any = values.get(field)
        pair, tolerance = (value, recorded_value), FIGURE_TOLERANCE
        if is_calibrated and field in ROUNDED:
            tolerance = ROUNDED[field]
            pair = (float(pair[0]), float(pair[1])) if field == "rank" else pair
        if differs(*pair, tolerance):
            yield Finding("figure", name, str(value), str(recorded_value), field)
