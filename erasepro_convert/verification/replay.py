"""Verification by replay: the recipe must give the same tensors from the original again."""

from collections.abc import Iterator
from math import hypot, isclose
from pathlib import Path
from tempfile import TemporaryDirectory

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.images.thumbnail import URI
from erasepro_convert.manifest import Manifest
from erasepro_convert.manifest.safetensors_metadata import EMBEDDED, THUMBNAIL
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.storage.location import Location, file_name
from erasepro_convert.verification.finding import Finding

UPDATE_TOLERANCE = 0.1
"""The relative deviation of a training's whole update norm that another processor may cause.

``benchmarks/replay.py`` measures 0.06 at most.  The norms of single tensors deviate several times
as much.
"""

FIRST_LOSS_TOLERANCE = 0.25
"""The relative deviation of the loss of a training's first step that another processor may cause.

``benchmarks/replay.py`` measures 0.08 at most: for AC, which draws pictures of anchors before the
first step.  Another seed changes this loss much, but hardly the norm of the update.
"""


def verify_replay(
    manifest: Manifest, base: Location, text_encoder: "Location | None", progress: Progress
) -> Iterator[Finding]:
    """Check that the recipe gives the same tensors again.  Raises what ``convert`` does."""
    thumbnail = manifest.output.metadata.get(THUMBNAIL, "")
    options = Options(
        dtype=manifest.tensors.dtype,
        ema=manifest.variant.ema or "drop",
        text_encoder=text_encoder,
        folder=len(manifest.output.files) > 1,
        embed_manifest=EMBEDDED in manifest.output.metadata,
        autov3=any(file.autov3 for file in manifest.output.files),
        tensor_digests=manifest.output.algorithm,
        private=manifest.is_private,
        # Another one is none that a conversion writes: the files will differ.
        thumbnail=thumbnail if thumbnail.startswith(URI) else None,
        dry_run=True,
    )
    already_erased = frozenset(manifest.alignment.held)
    with TemporaryDirectory() as folder:  # an empty folder, so that no file is in the way
        target = Path(folder) / file_name(Path(manifest.output.name))
        replayed = convert(
            manifest.recipe,
            base,
            target,
            options,
            progress,
            already_erased=already_erased,
            anew=True,
        )
    recorded, repeated = manifest.output, replayed.output
    trained = {edit.name for edit in manifest.all_edits} if manifest.trained else set()
    for name in sorted(recorded.tensors.keys() | repeated.tensors.keys()):
        recorded_tensor, tensor = recorded.tensors.get(name), repeated.tensors.get(name)
        if recorded_tensor == tensor or name in trained:
            continue
        digests = (t.digest if t else "not there" for t in (tensor, recorded_tensor))
        yield Finding("replay", name, *digests)
    if manifest.trained and replayed.trained:
        yield from _compare_trainings(manifest, replayed)
        return  # trained tensors differ, and so do the files
    if file_name(base) == manifest.input.name and recorded.files != repeated.files:
        # The title in the header names the input, so that another name gives another header.
        yield Finding("replay", recorded.name, "the same files", "others")


def _compare_trainings(recorded: Manifest, repeated: Manifest) -> Iterator[Finding]:
    """Compare the whole update and the loss of the first step of two trainings."""
    norms = [hypot(*(edit.update_norm for edit in one.all_edits)) for one in (repeated, recorded)]
    if not isclose(*norms, rel_tol=UPDATE_TOLERANCE):
        yield Finding("replay", "update_norm of all that is trained", *map(str, norms))
    losses = [one.trained.losses[0] for one in (repeated, recorded) if one.trained]
    if not isclose(*losses, rel_tol=FIRST_LOSS_TOLERANCE):
        yield Finding("replay", "loss of the first step", *map(str, losses))
