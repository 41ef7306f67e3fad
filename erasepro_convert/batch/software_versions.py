"""What the bytes of an output depend on beside the job: our own code, and the libraries."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from erasepro_convert import __version__

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers")
MATTERS = (".py", ".gz")
"""Suffixes of the package's files that count: code, and CLIP's vocabulary."""

Identity = dict[str, str]


@cache
def identity() -> Identity:
    """Versions, and a digest of the package's files.

    It is computed once in a process: what is installed later is not what runs there.
    """
    package = Path(__file__).parents[1]
    files = (path for path in package.rglob("*") if path.suffix in MATTERS)
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in files):
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    return {
        "erasepro-convert": __version__,
        "its files": digest.hexdigest()[:16],
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def differences(theirs: Identity, ours: Identity) -> list[str]:
    """What is another there than here, in words."""
    return [
        f"{name}: {theirs.get(name, 'none')}, here {ours[name]}"
        for name in ours
        if theirs.get(name) != ours[name]
    ]
