"""Signatures of releases, checked through OpenSSF's model-signing, offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from erasepro_convert.manifest import Manifest, manifest_path
from erasepro_convert.manifest.signature import (
    CURVES,
    linked_alone,
    naming_key_file,
    require_certificate,
    signature_path,
    signing_library,
)
from erasepro_convert.verification.finding import Finding

PUBLIC_KEY = f"an EC public key on {CURVES} in PEM"
SIGNED_BY = {
    "key": "by a key (--key)",
    "certificate": "by the holder of a certificate (--certificate)",
}
"""Each way of signing, in words, with the option of ``verify`` that checks it."""


@dataclass(frozen=True)
class SignatureVerifier:
    """Checks that a signature was made by a key, or by the holder of a certificate.

    ``config`` is model-signing's, with that key or the certificates that lead to the holder's.
    """

    signed_by: Literal["key", "certificate"]
    config: Any

    def check(self, manifest: Manifest, target: Path, record: Path) -> list[Finding]:
        """Check the signature beside ``target``, whose manifest is ``record``."""
        is_folder = target.is_dir()
        path = signature_path(target, folder=is_folder)
        if is_folder:
            signed = (p for p in target.rglob("*") if p.is_file() and p != path)
            files = {p.relative_to(target).as_posix(): p for p in signed}
        else:
            files = {
                manifest.output.name: target,
                manifest_path(Path(manifest.output.name)).name: record,
            }
        return self.check_files(files, path)

    def check_files(self, files: Mapping[str, Path], path: Path) -> list[Finding]:
        """Check that the signature at ``path`` is of these files, by the names that were signed."""
        if not path.exists():
            return [Finding("signature", path.name, "there", "missing")]
        made_by = _made_by(path)
        if made_by not in (None, self.signed_by):
            return [Finding("signature", path.name, SIGNED_BY[self.signed_by], SIGNED_BY[made_by])]
        with linked_alone(files) as (model, hashing):
            try:
                self.config.set_hashing_config(hashing).verify(model, path)
            except Exception as error:
                # The library raises errors of its own and of its parsers: any means no match.
                found = str(error) or "another signature"
                return [Finding("signature", path.name, "true of these files", found)]
        return []


def signature_verifier(key: Path | None, chain: Sequence[Path]) -> SignatureVerifier:
    """Return a verifier by a public key, or else by a chain of certificates.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    config = signing_library().verifying.Config()
    if key is not None:
        with naming_key_file(key, "key to verify with", PUBLIC_KEY):
            config.use_elliptic_key_verifier(public_key=key)
        return SignatureVerifier("key", config)
    for path in chain:
        require_certificate(path)
    config.use_certificate_verifier(certificate_chain=chain)
    return SignatureVerifier("certificate", config)


def _made_by(path: Path) -> Literal["key", "certificate"] | None:
    """Return what a signature was made with; None where the file has another form."""
    try:
        material = json.loads(path.read_bytes())["verificationMaterial"]
        return "certificate" if "x509CertificateChain" in material else "key"
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # the library reports what is wrong with the file
