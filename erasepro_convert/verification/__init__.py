"""Whether a checkpoint is what its manifest says; every deviation, not only the first.

From the manifest alone: the manifest itself, files, metadata, every tensor.  With the original
checkpoint: that nothing else was touched, that all figures are those of these two files, and (by
replay) that the recipe gives these very tensors again.
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

__all__ = ["Finding", "Request", "Verified", "verify"]


@dataclass(frozen=True)
class Request:
    """What to verify.

    ``base`` is the original checkpoint (``text_encoder`` where a missing one came from), ``replay``
    runs the recipe on it again; ``tensors_only`` matches a copy that was saved anew.
    """

    target: Location
    base: "Location | None" = None
    text_encoder: "Location | None" = None
    replay: bool = False
    tensors_only: bool = False


@dataclass(frozen=True)
class Verified:
    """Every deviation, how many of the manifest's tensors were compared, and what a copy lacks."""

    findings: tuple[Finding, ...]
    compared: int = 0
    absent: tuple[str, ...] = ()


def verify(manifest: Manifest, asked: Request, progress: Progress) -> Verified:
    """Compare an output with its manifest, and with its original where that is given.

    Raises UsageError or CheckpointError where the base cannot be used at all; OSError passes
    through.
    """
    findings = [*verify_manifest(manifest)]
    with ThreadPoolExecutor(1) as beside:  # both read the file; the disk does it once
        files = beside.submit(
            lambda: [] if asked.tensors_only else [*verify_files(manifest, asked.target)]
        )
        try:
            checkpoint = open_checkpoint(asked.target)
            tensors = verify_tensors(manifest, checkpoint, progress, is_copy=asked.tensors_only)
        except CheckpointError as error:
            unsound = Finding("file", file_name(asked.target), "a sound checkpoint", str(error))
            return Verified((*findings, *files.result(), unsound))
        findings += files.result()
    if not asked.tensors_only:
        findings += verify_metadata(manifest, checkpoint)
    findings += tensors.findings
    if asked.base is not None:
        # Not at the top: what needs no original needs no torch.
        from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
        from erasepro_convert.verification.against_base import (
            verify_figures,
            verify_input,
            verify_replay,
            verify_unedited,
        )

        ema = manifest.variant.ema or "drop"
        base = open_sd1_checkpoint(asked.base, ema, asked.text_encoder)
        findings += verify_input(manifest, base)
        findings += verify_unedited(manifest, base, tensors.digests)
        try:
            output = open_sd1_checkpoint(asked.target, "convert" if ema == "convert" else "drop")
            findings += verify_figures(manifest, base, output, progress)
            if asked.replay:
                findings += verify_replay(manifest, asked.base, asked.text_encoder, progress)
        except EraseproError as error:  # the base is sound: it is the output or the manifest
            findings.append(
                Finding("figure", file_name(asked.target), "to be computed", str(error))
            )
    return Verified(tuple(findings), len(tensors.digests), tensors.absent)
