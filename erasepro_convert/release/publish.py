"""Write the evidence of a release, signed where asked for, and have the manifest name it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.manifest import manifest_path
from erasepro_convert.manifest.signature import Sign, signature_path
from erasepro_convert.output.destinations import Inputs, require_place
from erasepro_convert.release.bundle import EVIDENCE, SIGNATURE, Files, writing_bundle
from erasepro_convert.release.bundle_findings import verify_bundle_files
from erasepro_convert.release.evidence_model import Evidence
from erasepro_convert.release.results import Results


def signature_to_renew(results: Results, sign: Sign | None) -> Path | None:
    """Return the signature beside an output, which covers its manifest; None where there is none.

    Raises UsageError where there is one and nothing to sign with, and where the manifest cannot be
    replaced, in which the evidence is to be named.
    """
    require_place(results.manifest_file)
    path = signature_path(results.output, folder=results.output.is_dir())
    if not path.exists():
        return None
    if sign is None:
        raise UsageError(
            f"{path}: signs the manifest, which will name the evidence: sign both with --sign KEY"
        )
    return path


def publish(
    results: Results,
    evidence: Evidence,
    files: Files,
    target: Path,
    inputs: Inputs,
    sign: Sign | None = None,
) -> None:
    """Write the bundle of a release and its digest into the manifest beside the output, or neither.

    The manifest's own digest stays as it is.  A signature that covers the manifest is made anew.

    Raises UsageError where the target would replace an input, and for a signature that cannot be
    made anew, VerificationError where the files do not hold against each other, as those of an
    edited manifest; OSError passes through.
    """
    for finding in verify_bundle_files(files, evidence, results.manifest):
        raise VerificationError(
            f"{results.output}: no sound evidence can be made: {finding.place}: expected "
            f"{finding.expected}, found {finding.found}"
        )
    renewed = signature_to_renew(results, sign)
    if sign:
        with TemporaryDirectory() as folder:
            path = Path(folder, EVIDENCE)
            path.write_bytes(files[EVIDENCE])
            files = {**files, SIGNATURE: sign({EVIDENCE: path})}
    record, output = results.manifest_file, results.output
    named = results.manifest.model_copy(update={"evidence_sha256": evidence.evidence_sha256})
    beside = [record, *([renewed] if renewed else [])]
    with writing_bundle(target, files, inputs, beside) as (manifest, *signature):
        manifest.write(named.to_json().encode())
        manifest.flush()
        if sign and signature:
            written = results.manifest.output
            if output.is_dir():
                signed = {file.name: output / file.name for file in written.files}
                signed[record.name] = Path(manifest.name)
            else:  # by the names of the conversion, whatever they are now
                name = manifest_path(Path(written.name)).name
                signed = {written.name: output, name: Path(manifest.name)}
            signature[0].write(sign(signed))
