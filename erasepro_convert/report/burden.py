"""The update that each text encoder alone would need in the cross-attention (Fig. 2d).

No edit rests on these figures, and each takes a solve of its own, so a conversion does not make
them.  They are computed from the original and the output when a report is asked for them.
"""

from pathlib import Path

from erasepro_convert.conversion.erasure import measure_erasure
from erasepro_convert.errors import UsageError
from erasepro_convert.manifest import Manifest
from erasepro_convert.runtime.dtypes import option_dtype
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.storage.location import file_name
from erasepro_convert.verification.against_base import verify_input


def with_burden(
    manifest: Manifest, base: Path, output: Path, text_encoder: Path | None, progress: Progress
) -> Manifest:
    """Fill ``single_encoder_update`` of the manifest's edits in; nothing else is changed.

    Raises UsageError where ``base`` is not what the output was made from, CheckpointError for a
    file that is not a sound SD1.x checkpoint; OSError passes through.
    """
    original = open_sd1_checkpoint(base, manifest.variant.ema or "drop", text_encoder)
    if found := next(verify_input(manifest, original), None):
        raise UsageError(f"{file_name(base)}: not what this was made from: {found.place} differs")
    dtype = option_dtype(manifest.tensors.dtype)
    measured = measure_erasure(
        original,
        manifest.recipe,
        dtype,
        progress,
        open_sd1_checkpoint(output).read,
        already_erased=frozenset(manifest.alignment.held),
        single_encoder=True,
    )
    updates = {name: edit.record.single_encoder_update for name, edit in measured.edits.items()}
    edits = [
        edit.model_copy(update={"single_encoder_update": updates.get(edit.name)})
        for edit in manifest.edits
    ]
    return manifest.model_copy(update={"edits": tuple(edits)})
