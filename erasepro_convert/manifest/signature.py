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
from erasepro_convert.manifest.names_beside import SIGNATURE
from erasepro_convert.storage.location import Location, sibling

if TYPE_CHECKING:
    from upath import UPath

Sign = Callable[[Mapping[str, Path]], bytes]
"""Makes the bundle of files by the names that they will have."""

CURVES = "P-256, P-384 or P-521"
PRIVATE = f"an EC private key on {CURVES} in PEM, unencrypted (openssl pkey -in KEY decrypts one)"
TO_SIGN = "key to sign with"
EXTRA = "signatures need more libraries: pip install 'erasepro-convert[sign]'"


@overload
def signature_path(output: Path, *, folder: bool = False) -> Path: ...
@overload
def signature_path(output: "UPath", *, folder: bool = False) -> "UPath": ...
def signature_path(output: Location, *, folder: bool = False) -> Location:
    """Where the signature lies: beside ``out.safetensors`` as ``out.sig``, or inside a folder."""
    return output / "model.sig" if folder else sibling(output, SIGNATURE)


def require_key(key: Path | None, certificate: Path | None, chain: Sequence[Path]) -> None:
    """Refuse certificates without the key that signs.  Raises UsageError."""
    if (certificate or chain) and not key:
        raise UsageError("--certificate and --chain go with --sign")


def signer(key: Path, certificate: Path | None, chain: Sequence[Path]) -> Sign:
    """Signs with a private key, or as the holder of a certificate with those above it.

    Raises UsageError for files that are no key or certificate, and where the libraries are missing.
    """
    if chain and certificate is None:
        raise UsageError("--chain is of certificates above --certificate, which is not given")
    config = signing_library().signing.Config()
    if certificate is None:
        with naming_key_file(key, TO_SIGN, PRIVATE):
            config.use_elliptic_key_signer(private_key=key)
    else:
        for path in (certificate, *chain):
            require_certificate(path)
        with naming_key_file(key, TO_SIGN, f"{PRIVATE}, the one that {certificate} is for"):
            config.use_certificate_signer(
                private_key=key,
                signing_certificate=certificate,
                certificate_chain=chain or (certificate,),  # the library takes no empty one
            )

    def sign(files: Mapping[str, Path]) -> bytes:
        with linked_alone(files) as (model, hashing), TemporaryDirectory() as folder:
            bundle = Path(folder) / "model.sig"
            config.set_hashing_config(hashing).sign(model, bundle)
            return bundle.read_bytes()

    return sign


@contextmanager
def naming_key_file(path: Path, purpose: str, wanted: str) -> Iterator[None]:
    """Name the file that the libraries cannot use, and what it should be."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: no {purpose}: {error.strerror}") from error
    except Exception as error:
        # They raise many: an RSA key, say, is one to them until they ask for its curve.
        raise UsageError(f"{path}: no {purpose}: it should be {wanted}") from error


def require_certificate(path: Path) -> None:
    """Raise UsageError unless the file is an X.509 certificate in PEM."""
    from cryptography.x509 import load_pem_x509_certificate

    with naming_key_file(path, "certificate", "an X.509 certificate in PEM"):
        load_pem_x509_certificate(path.read_bytes())


def signing_library() -> Any:
    """Import model-signing.  Raises UsageError where it is not installed."""
    try:
        import model_signing
    except ImportError as error:
        raise UsageError(EXTRA) from error
    return model_signing


@contextmanager
def linked_alone(files: Mapping[str, Path]) -> Iterator[tuple[Path, Any]]:
    """A folder that holds these files alone, by links, since the library signs folders whole."""
    with TemporaryDirectory() as name:
        model = Path(name) / "model"
        for place, path in files.items():
            (model / place).parent.mkdir(parents=True, exist_ok=True)
            (model / place).symlink_to(os.path.abspath(path))
        yield model, signing_library().hashing.Config().set_allow_symlinks(True)
