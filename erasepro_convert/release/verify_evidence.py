"""Verify a bundle of evidence: that it is whole, that its files agree, and who signed it.

It stands alone; where the checkpoint is there too, that is held against the bundle's manifest, and
the manifest beside it against the evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.manifest import Manifest, manifest_beside, names_beside
from erasepro_convert.manifest.fields import first_mistake
from erasepro_convert.release.bundle import (
    EVIDENCE,
    MANIFEST,
    SIGNATURE,
    Files,
    read_bundle,
)
from erasepro_convert.release.bundle_findings import verify_bundle_files
from erasepro_convert.release.evidence_model import Evidence
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.storage.location import sibling
from erasepro_convert.verification import Finding, verify
from erasepro_convert.verification.finding import Checks, outcomes_of, sentences_on
from erasepro_convert.verification.signature import signature_verifier
from erasepro_convert.verification.verify import CHECKS as CHECKS_OF_CHECKPOINT

Model = TypeVar("Model", bound=BaseModel)

THE_ZIP = "the zip that evidence writes (if it was zipped anew, unpack it and verify the folder)"

PAIR = "manifest and evidence"
NAMED = "which the manifest beside the checkpoint names: the evidence that was written last"
OTHER_EVIDENCE = (
    "other evidence: if you wrote some anew since, keep that and remove this; else write it anew "
    "with evidence OUT --force"
)
OTHER_CONVERSION = (
    "of another conversion: if you converted anew since, write its evidence with "
    "evidence OUT --force"
)
"""What manifest and evidence are that do not name one another, and what to do."""

CHECKS: Checks = {
    "bundle": {"bundle"},
    "evidence": {"evidence"},
    "manifest": {"manifest"},
    "recipe": {"recipe"},
    "bom": {"bom"},
    "results": {"results"},
    "signature": {"signature"},
    "checkpoint": CHECKS_OF_CHECKPOINT["file"],
    "link": {"link"},
}
"""What can be checked."""

HELD = {
    "bundle": "each file has its size and digest; none is missing, none too many",
    "evidence": "true to itself; digests, runs and what is not stated fit the rest",
    "manifest": "true to itself, and named by the evidence",
    "recipe": "reads as the one in the manifest",
    "bom": "valid CycloneDX 1.6, with the manifest's digests",
    "results": "evaluation and stress test, where they are, are of this checkpoint",
    "signature": "made by this key or certificate, of this evidence",
    "checkpoint": "files, metadata and tensors are as the manifest says",
    "link": "the manifest beside the checkpoint names this evidence",
}
"""What a check says that found nothing."""
NOT_MADE = {
    "signature": "give --key PUB or --certificate CERT",
    "checkpoint": "it does not lie beside: give --checkpoint OUT",
    "link": "no manifest that names evidence lies beside the checkpoint",
}
"""Why a check was not made."""


@dataclass(frozen=True)
class VerifiedEvidence:
    """All deviations of a bundle, and which checks were made.

    ``is_signed`` says whether the bundle has a signature, ``checkpoint`` is where the checkpoint
    is; None where it is not there.
    """

    evidence: Evidence
    manifest: Manifest
    findings: tuple[Finding, ...]
    done: frozenset[str]
    is_signed: bool
    checkpoint: Path | None = None

    @property
    def checked(self) -> dict[str, bool | None]:
        """Whether each check found nothing; None for one that was not made."""
        return outcomes_of(CHECKS, self.findings, self.done)

    @property
    def said(self) -> dict[str, str]:
        """What each check says: what held, how much deviates, or why it was not made."""
        not_made = NOT_MADE if self.is_signed else NOT_MADE | {"signature": "it is not signed"}
        return sentences_on(CHECKS, self.findings, self.checked, HELD, not_made)


def verify_evidence(
    bundle: Path | str,
    *,
    checkpoint: Path | str | None = None,
    key: Path | None = None,
    certificates: Sequence[Path] = (),
    progress: Progress = silent,
) -> VerifiedEvidence:
    """Verify a zip or a folder of evidence, and its checkpoint where that is there.

    ``checkpoint`` is by default what lies beside the bundle under the name that the manifest gives.
    ``key`` is the public key that must have signed; ``certificates`` are those above the one whose
    holder must have signed.

    Deviations are no errors: see ``VerifiedEvidence.findings``.  Raises UsageError for files that
    are missing and for options that do not go together, VerificationError for what is no bundle of
    evidence; OSError passes through.
    """
    if key and certificates:
        raise UsageError("--key and --certificate exclude one another: a signature is by one")
    bundle, checkpoint = Path(bundle), Path(checkpoint) if checkpoint else None
    if checkpoint and not checkpoint.exists():
        raise UsageError(f"{checkpoint}: there is no such file")
    verifier = signature_verifier(key, certificates) if key or certificates else None
    files, is_plain = read_bundle(bundle)
    evidence = _read(bundle, files, EVIDENCE, Evidence)
    manifest = _read(bundle, files, MANIFEST, Manifest)
    findings = [] if is_plain else [Finding("bundle", bundle.name, THE_ZIP, "another zip")]
    findings += verify_bundle_files(files, evidence, manifest)
    done = CHECKS.keys() - {"signature", "checkpoint", "link"}
    place = checkpoint or _beside(bundle, manifest)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in {EVIDENCE, SIGNATURE, MANIFEST} & files.keys():
            (folder / part).write_bytes(files[part])
        if verifier:
            done |= {"signature"}
            signed = {EVIDENCE: folder / EVIDENCE}
            findings += verifier.check_files(signed, folder / SIGNATURE)
        if place:
            done |= {"checkpoint"}
            findings += verify(place, folder / MANIFEST, progress=progress).findings
            if beside := manifest_beside(place):
                findings += verify_link(beside, evidence)
                done |= {"link"} if beside.evidence_sha256 else set()
    return VerifiedEvidence(
        evidence,
        manifest,
        tuple(dict.fromkeys(findings)),
        frozenset(done),
        SIGNATURE in files,
        place,
    )


def _beside(bundle: Path, manifest: Manifest) -> Path | None:
    """Return the checkpoint beside a bundle: by the bundle's name, or by the one in the manifest.

    None where there is neither.
    """
    written = Path(manifest.output.name)
    stem = bundle.name.removesuffix(names_beside.EVIDENCE)
    for name in (stem + written.suffix, written.name):
        place = bundle.absolute().parent / name
        if name not in ("", "..", bundle.name) and place.exists():
            return place
    return None


def verify_evidence_beside(manifest: Manifest, output: Path) -> list[Finding]:
    """Check that the evidence beside an output is the one that its manifest names.

    None is no deviation: evidence may lie elsewhere.
    """
    place = sibling(output, names_beside.EVIDENCE)
    if not (manifest.evidence_sha256 and place.exists()):
        return []
    try:
        files, _ = read_bundle(place)
        return verify_link(manifest, _read(place, files, EVIDENCE, Evidence))
    except VerificationError as error:
        return [Finding("link", place.name, "evidence", str(error))]


def verify_link(beside: Manifest, evidence: Evidence) -> list[Finding]:
    """Check that the manifest beside a checkpoint and its evidence name one another.

    A manifest from before the evidence names none, which is no deviation.
    """
    findings = []
    if evidence.manifest_sha256 != beside.digest():
        named, found = evidence.manifest_sha256, f"{beside.digest()}, {OTHER_CONVERSION}"
        findings.append(Finding("link", PAIR, named, found, "manifest_sha256"))
    if beside.evidence_sha256 not in (None, evidence.digest()):
        named, found = (
            f"{beside.evidence_sha256}, {NAMED}",
            f"{evidence.digest()}, {OTHER_EVIDENCE}",
        )
        findings.append(Finding("link", PAIR, named, found, "evidence_sha256"))
    return findings


def _read(bundle: Path, files: Files, name: str, model: type[Model]) -> Model:
    if name not in files:
        raise VerificationError(f"{bundle}: not a bundle of evidence: it has no {name}")
    try:
        return model.model_validate_json(files[name])
    except ValidationError as error:
        raise VerificationError(f"{bundle}: {name}: {first_mistake(error)}") from error
