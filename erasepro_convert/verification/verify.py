"""Verification of an output against its manifest, and against the original where it is given.

The manifest alone allows to check the manifest itself, the files, their metadata and every tensor.
The original checkpoint also shows that nothing else was changed and that all figures are those of
these two files; a replay shows that the recipe gives these very tensors again.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.errors import CheckpointError, EraseproError, UsageError, VerificationError
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.storage.listing import exists, is_folder
from erasepro_convert.storage.location import Location, file_name, locate, redacted
from erasepro_convert.verification.against_manifest import (
    verify_files,
    verify_lora,
    verify_manifest,
    verify_metadata,
    verify_tensors,
)
from erasepro_convert.verification.finding import Checks, Finding, outcomes_of, sentences_on
from erasepro_convert.verification.signature import signature_verifier


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


CHECKS: Checks = {
    "manifest": {"manifest"},
    "file": {"file", "metadata", "tensor", "lora"},
    "base": {"base", "untouched", "figure"},
    "replay": {"replay"},
    "signature": {"signature"},
}
"""What can be checked."""
HELD = {
    "manifest": "true to itself and to the recipe in it",
    "file": "sizes, digests, metadata and tensors are as the manifest says",
    "base": "all that was not edited is as it is there, and every figure comes out again",
    "replay": "the recipe gives the same again",
    "signature": "made by this key or certificate, over this file and this manifest",
}
TENSORS_ALONE = "its tensors are as the manifest says; nothing else was compared"
"""What a check says that found nothing."""
NOT_MADE = {
    "base": "give --base IN",
    "replay": "give --base IN --replay",
    "signature": "give --key PUB or --certificate CERT",
}
"""Why a check was not made."""


@dataclass(frozen=True)
class Verified:
    """All deviations, the number of tensors that were compared, and the tensors a copy lacks.

    ``manifest`` is what the output was compared with, ``done`` are the checks that were made to
    their end.  ``lora`` is where the output's LoRA lies, if it was compared too.  With
    ``tensors_only`` nothing but tensors was compared.
    """

    manifest: Manifest
    findings: tuple[Finding, ...]
    compared: int = 0
    absent: tuple[str, ...] = ()
    lora: Path | None = None
    done: tuple[str, ...] = ()
    tensors_only: bool = False

    @property
    def checked(self) -> dict[str, bool | None]:
        """Whether each check found nothing; None for one that was not made, or not to its end."""
        return outcomes_of(CHECKS, self.findings, self.done)

    @property
    def said(self) -> dict[str, str]:
        """What each check says: what held, how much deviates, or why it was not made."""
        held = HELD | {"file": TENSORS_ALONE} if self.tensors_only else HELD
        return sentences_on(CHECKS, self.findings, self.checked, held, NOT_MADE)


def verify(
    output: "Location | str",
    manifest: "Location | str | None" = None,
    *,
    base: "Location | str | None" = None,
    text_encoder: "Location | str | None" = None,
    replay: bool = False,
    tensors_only: bool = False,
    key: Path | None = None,
    certificates: Sequence[Path] = (),
    progress: Progress = silent,
) -> Verified:
    """Compare an output with its manifest, and with its original where ``base`` is given.

    All are paths or URLs.  The ``manifest`` is the file beside the output unless it is given.
    ``text_encoder`` is where the base's text encoder came from if it has none.  ``replay`` runs
    the recipe on the base again.  ``tensors_only`` compares tensors alone, for a copy that was
    saved anew.  ``key`` is the public key that must have signed; ``certificates`` are those above
    the one whose holder must have signed.

    Deviations are no errors: see ``Verified.findings``.  Raises UsageError for files that are
    missing and for options that do not go together, VerificationError for a file that is no
    manifest, CheckpointError where the base cannot be used at all; OSError passes through.
    """
    target, record = locate(output), locate(manifest) if manifest is not None else None
    request = Request(
        target,
        locate(base) if base is not None else None,
        locate(text_encoder) if text_encoder is not None else None,
        replay,
        tensors_only,
    )
    if (replay or text_encoder) and base is None:
        raise UsageError("--replay and --text-encoder need --base")
    if (key or certificates) and not (
        isinstance(target, Path) and isinstance(record or target, Path)
    ):
        raise UsageError("--key and --certificate are for an output that is here: fetch it first")
    if key and certificates:
        raise UsageError("--key and --certificate exclude one another: a signature is by one")
    verifier = signature_verifier(key, certificates) if key or certificates else None
    record = record or manifest_path(target, folder=is_folder(target))
    for place in (target, record, *([request.base] if request.base else [])):
        if not (place.exists() if isinstance(place, Path) else exists(place)):
            raise UsageError(f"{redacted(place)}: there is no such file")
    try:
        stated = read_manifest(record)
    except UsageError as error:  # a file that is no manifest is a failed verification
        raise VerificationError(str(error)) from error
    verified = replace(compare(stated, request, progress), tensors_only=tensors_only)
    if verifier and isinstance(target, Path) and isinstance(record, Path):
        signed = verifier.check(stated, target, record)
        findings = (*verified.findings, *signed)
        return replace(verified, findings=findings, done=(*verified.done, "signature"))
    return verified


def compare(manifest: Manifest, request: Request, progress: Progress) -> Verified:
    """Compare an output with a manifest, and with its original if the request names it.

    Raises UsageError or CheckpointError where the base cannot be used at all; OSError passes
    through.
    """
    findings = [*verify_manifest(manifest)]
    lora = None if request.tensors_only else _lora_beside(manifest, request.target)
    with ThreadPoolExecutor(1) as background:  # both read the file at once, from the disk only once
        files = background.submit(
            lambda: [] if request.tensors_only else [*verify_files(manifest, request.target)]
        )
        try:
            checkpoint = open_checkpoint(request.target)
            tensors = verify_tensors(manifest, checkpoint, progress, is_copy=request.tensors_only)
        except CheckpointError as error:
            unsound = Finding("file", file_name(request.target), "a sound checkpoint", str(error))
            found = (*findings, *files.result(), unsound)
            return Verified(manifest, found, done=("manifest", "file"))
        findings += files.result()
    if not request.tensors_only:
        findings += verify_metadata(manifest, checkpoint)
    if manifest.lora and lora:
        findings += verify_lora(manifest.lora, lora)
    findings += tensors.findings
    done = ["manifest", "file"]
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
        other = [*verify_input(manifest, base)]
        if other:  # against another original, every figure would deviate
            return Verified(manifest, (*findings, *other), len(tensors.digests), done=tuple(done))
        findings += verify_unedited(manifest, base, tensors.digests)
        try:
            output = open_sd1_checkpoint(request.target, "convert" if ema == "convert" else "drop")
            findings += verify_figures(manifest, base, output, progress)
            done.append("base")
            if request.replay:
                findings += verify_replay(manifest, request.base, request.text_encoder, progress)
                done.append("replay")
        except EraseproError as error:  # the base is sound: the output or the manifest is not
            findings.append(
                Finding("figure", file_name(request.target), "to be computed", str(error))
            )
    return Verified(
        manifest, tuple(findings), len(tensors.digests), tensors.absent, lora, tuple(done)
    )


def _lora_beside(manifest: Manifest, target: Location) -> Path | None:
    """Return the output's LoRA if it lies beside it; it need not, as UIs have a folder of LoRAs."""
    if not manifest.lora or not isinstance(target, Path):
        return None
    path = target.absolute().with_name(manifest.lora.file.name)
    return path if path.exists() else None
