"""Signatures over a release and its manifest, through OpenSSF's model-signing, offline.

The bundle is a sigstore bundle over an in-toto statement that lists each file with its SHA-256;
model-signing's own command line verifies it too.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, overload

from erasepro_convert.errors import UsageError
from erasepro_convert.verification.finding import Finding
from erasepro_convert.manifest import Manifest, manifest_path
from erasepro_convert.storage.location import Location, beside

if TYPE_CHECKING:
    from upath import UPath

Sign = Callable[[Mapping[str, Path]], bytes]
"""Makes the bundle of files by the names that they will have."""

CURVES = "P-256, P-384 or P-521"
PRIVATE = f"an EC private key on {CURVES} in PEM, unencrypted (openssl pkey -in KEY decrypts one)"
PUBLIC = f"an EC public key on {CURVES} in PEM"
TO_SIGN = "key to sign with"
HOLDERS = {
    "key": "by a key (--key)",
    "certificate": "by the holder of a certificate (--certificate)",
}
"""Who signs, and the option of ``verify`` that checks it."""

EXTRA = "signatures need more libraries: pip install 'erasepro-convert[sign]'"


@overload
def signature_path(output: Path, *, folder: bool = False) -> Path: ...
@overload
def signature_path(output: "UPath", *, folder: bool = False) -> "UPath": ...
def signature_path(output: Location, *, folder: bool = False) -> Location:
    """Where the signature lies: beside ``out.safetensors`` as ``out.sig``, or inside a folder."""
    return output / "model.sig" if folder else beside(output, ".sig")


def signer(key: Path, certificate: Path | None, chain: Sequence[Path]) -> Sign:
    """Signs with a private key, or as the holder of a certificate with those above it.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    if chain and certificate is None:
        raise UsageError("--chain is of certificates above --certificate, which is not given")
    config = _library().signing.Config()
    if certificate is None:
        with _refusing(key, TO_SIGN, PRIVATE):
            config.use_elliptic_key_signer(private_key=key)
    else:
        for path in (certificate, *chain):
            _require_certificate(path)
        with _refusing(key, TO_SIGN, f"{PRIVATE}, the one that {certificate} is for"):
            config.use_certificate_signer(
                private_key=key,
                signing_certificate=certificate,
                certificate_chain=chain or (certificate,),  # the library takes no empty one
            )

    def sign(files: Mapping[str, Path]) -> bytes:
        with _laid_out(files) as (model, hashing), TemporaryDirectory() as folder:
            bundle = Path(folder) / "model.sig"
            config.set_hashing_config(hashing).sign(model, bundle)
            return bundle.read_bytes()

    return sign


@dataclass(frozen=True)
class Seal:
    """What a signature must be of: a key (``by`` is "key"), or a certificate's holder."""

    by: Literal["key", "certificate"]
    config: Any

    def of_signature(self, manifest: Manifest, target: Path, record: Path) -> list[Finding]:
        """What deviates from the signature beside ``target``; ``record`` is its manifest."""
        is_folder = target.is_dir()
        path = signature_path(target, folder=is_folder)
        if not path.exists():
            return [Finding("signature", path.name, "there", "missing")]
        made_by = _made_by(path)
        if made_by not in (None, self.by):
            return [Finding("signature", path.name, HOLDERS[self.by], HOLDERS[made_by])]
        if is_folder:
            there = (p for p in target.rglob("*") if p.is_file() and p != path)
            files = {p.relative_to(target).as_posix(): p for p in there}
        else:
            files = {
                manifest.output.name: target,
                manifest_path(Path(manifest.output.name)).name: record,
            }
        with _laid_out(files) as (model, hashing):
            try:
                self.config.set_hashing_config(hashing).verify(model, path)
            except Exception as error:
                # The library's checks raise its own and its parsers' errors alike: none is a match.
                found = str(error) or "another signature"
                return [Finding("signature", path.name, "true of these files", found)]
        return []


def seal(key: Path | None, chain: Sequence[Path]) -> Seal:
    """What a public key, or else a chain of certificates, says of signatures.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    config = _library().verifying.Config()
    if key is not None:
        with _refusing(key, "key to verify with", PUBLIC):
            config.use_elliptic_key_verifier(public_key=key)
        return Seal("key", config)
    for path in chain:
        _require_certificate(path)
    config.use_certificate_verifier(certificate_chain=chain)
    return Seal("certificate", config)


@contextmanager
def _refusing(path: Path, purpose: str, wanted: str) -> Iterator[None]:
    """Name the file that the libraries cannot use, and what it should be."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: no {purpose}: {error.strerror}") from error
    except Exception as error:
        # They raise many: an RSA key, say, is one to them until they ask for its curve.
        raise UsageError(f"{path}: no {purpose}: it should be {wanted}") from error


def _require_certificate(path: Path) -> None:
    from cryptography.x509 import load_pem_x509_certificate

    with _refusing(path, "certificate", "an X.509 certificate in PEM"):
        load_pem_x509_certificate(path.read_bytes())


def _made_by(path: Path) -> Literal["key", "certificate"] | None:
    """What a bundle says it was made with; None where it is none of ours."""
    try:
        material = json.loads(path.read_bytes())["verificationMaterial"]
        return "certificate" if "x509CertificateChain" in material else "key"
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # the library says what is wrong with it


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise UsageError(EXTRA) from error
    return model_signing


@contextmanager
def _laid_out(files: Mapping[str, Path]) -> Iterator[tuple[Path, Any]]:
    """A folder that holds these files alone, by links, since the library signs folders whole."""
    with TemporaryDirectory() as name:
        model = Path(name) / "model"
        for place, path in files.items():
            (model / place).parent.mkdir(parents=True, exist_ok=True)
            (model / place).symlink_to(os.path.abspath(path))
        yield model, _library().hashing.Config().set_allow_symlinks(True)
