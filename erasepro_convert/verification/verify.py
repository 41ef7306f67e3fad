"""Verification of an output against its manifest, and against the original where it is given.

The manifest alone allows to check the manifest itself, the files, their metadata and every tensor.
The original checkpoint also shows that nothing else was changed and that all figures are those of
these two files; a replay shows that the recipe gives these very tensors again.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.errors import CheckpointError, EraseproError
from erasepro_convert.manifest import Manifest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.storage.location import Location, file_name
from erasepro_convert.verification.against_manifest import (
    verify_files,
    verify_manifest,
    verify_metadata,
    verify_tensors,
)
from erasepro_convert.verification.finding import Finding


@dataclass(frozen=True)
class Request:
    """What to verify.

    ``base`` is the original checkpoint, and ``text_encoder`` is where its text encoder came from
    if it has none.  ``replay`` runs the recipe on the base again.  ``tensors_only`` compares
    tensors alone, for a copy that was saved anew.
    """

    target: Location
    base: "Location | None" = None
    text_encoder: "Location | None" = None
    replay: bool = False
    tensors_only: bool = False


@dataclass(frozen=True)
class Verified:
    """All deviations, the number of tensors that were compared, and the tensors a copy lacks."""

    findings: tuple[Finding, ...]
    compared: int = 0
    absent: tuple[str, ...] = ()


def verify(manifest: Manifest, request: Request, progress: Progress) -> Verified:
    """Compare an output with its manifest, and with its original if the request names it.

    Raises UsageError or CheckpointError where the base cannot be used at all; OSError passes
    through.
    """
    findings = [*verify_manifest(manifest)]
    with ThreadPoolExecutor(1) as background:  # both read the file at once, from the disk only once
        files = background.submit(
            lambda: [] if request.tensors_only else [*verify_files(manifest, request.target)]
        )
        try:
            checkpoint = open_checkpoint(request.target)
            tensors = verify_tensors(manifest, checkpoint, progress, is_copy=request.tensors_only)
        except CheckpointError as error:
            unsound = Finding("file", file_name(request.target), "a sound checkpoint", str(error))
            return Verified((*findings, *files.result(), unsound))
        findings += files.result()
    if not request.tensors_only:
        findings += verify_metadata(manifest, checkpoint)
    findings += tensors.findings
    if request.base is not None:
        # These import torch, which verification by the manifest alone does not need.
        from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
        from erasepro_convert.verification.against_base import (
            verify_figures,
            verify_input,
            verify_unedited,
        )
        from erasepro_convert.verification.replay import verify_replay

        ema = manifest.variant.ema or "drop"
        base = open_sd1_checkpoint(request.base, ema, request.text_encoder)
        findings += verify_input(manifest, base)
        findings += verify_unedited(manifest, base, tensors.digests)
        try:
            output = open_sd1_checkpoint(request.target, "convert" if ema == "convert" else "drop")
            findings += verify_figures(manifest, base, output, progress)
            if request.replay:
                findings += verify_replay(manifest, request.base, request.text_encoder, progress)
        except (
            EraseproError
        ) as error:  # the base is sound, so that the output or the manifest is at fault
            findings.append(
                Finding("figure", file_name(request.target), "to be computed", str(error))
            )
    return Verified(tuple(findings), len(tensors.digests), tensors.absent)
