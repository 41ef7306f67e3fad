"""Keys to sign with, and to verify with."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def encoded(key: Any, *, password: bytes = b"", der: bool = False) -> bytes:
    scheme = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    container = serialization.Encoding.DER if der else serialization.Encoding.PEM
    return bytes(key.private_bytes(container, serialization.PrivateFormat.PKCS8, scheme))


def public(key: Any) -> bytes:
    return bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def write_pair(folder: Path, name: str, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> None:
    """Make a key pair: NAME.pem and NAME.pub."""
    key = ec.generate_private_key(curve())
    (folder / f"{name}.pem").write_bytes(encoded(key))
    (folder / f"{name}.pub").write_bytes(public(key))
