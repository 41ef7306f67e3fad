"""Signatures over a release and its manifest, through OpenSSF's model-signing, offline.

The bundle is a sigstore bundle over an in-toto statement that lists each file with its SHA-256;
model-signing's own command line verifies it too.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

from erasepro_convert.errors import UsageError
from erasepro_convert.finding import Finding
from erasepro_convert.manifest import Manifest, manifest_path
from erasepro_convert.storage import Location, beside

if TYPE_CHECKING:
    from upath import UPath

Sign = Callable[[Mapping[str, Path]], bytes]
"""Makes the bundle of files by the names that they will have."""

EXTRA = "signatures need more libraries: pip install 'erasepro-convert[sign]'"


@overload
def signature_path(output: Path, *, folder: bool = False) -> Path: ...
@overload
def signature_path(output: "UPath", *, folder: bool = False) -> "UPath": ...
def signature_path(output: Location, *, folder: bool = False) -> Location:
    """Where the signature lies: beside ``out.safetensors`` as ``out.sig``, or inside a folder."""
    return output / "model.sig" if folder else beside(output, ".sig")


def signer(key: Path, certificate: Path | None, chain: Sequence[Path]) -> Sign:
    """Signs with a private key (EC, PEM), or as the holder of a certificate.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    signing = _library().signing
    config = signing.Config()
    try:
        if certificate is None:
            config.use_elliptic_key_signer(private_key=key)
        else:
            config.use_certificate_signer(
                private_key=key, signing_certificate=certificate, certificate_chain=chain
            )
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{key}: no key to sign with: {error}") from error

    def sign(files: Mapping[str, Path]) -> bytes:
        with _laid_out(files) as (model, hashing), TemporaryDirectory() as folder:
            bundle = Path(folder) / "model.sig"
            config.set_hashing_config(hashing).sign(model, bundle)
            return bundle.read_bytes()

    return sign


def of_signature(
    manifest: Manifest, target: Path, record: Path, key: Path | None, chain: Sequence[Path]
) -> list[Finding]:
    """What deviates from the signature beside ``target``, checked with a public key or by chain.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    verifying = _library().verifying
    is_folder = target.is_dir()
    path = signature_path(target, folder=is_folder)
    if not path.exists():
        return [Finding("signature", path.name, "there", "missing")]
    config = verifying.Config()
    try:
        if key is not None:
            config.use_elliptic_key_verifier(public_key=key)
        else:
            config.use_certificate_verifier(certificate_chain=chain)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{key or chain[0]}: no key to verify with: {error}") from error
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
            config.set_hashing_config(hashing).verify(model, path)
        except Exception as error:
            # The library's checks raise its own and its parsers' errors alike: none is a match.
            return [Finding("signature", path.name, "true of these files", str(error))]
    return []


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
