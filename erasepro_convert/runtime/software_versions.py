"""The versions of the software that the bytes of an output depend on."""

import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from erasepro_convert.runtime.version import __version__

LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers")
DIGESTED_SUFFIXES = (".py", ".gz")
"""Files of the package with these suffixes are digested: code, and CLIP's vocabulary."""

SoftwareVersions = dict[str, str]


@cache
def software_versions() -> SoftwareVersions:
    """Return versions of the libraries, and a digest of this package's files.

    They are computed once in a process, since an installation that changes later is not what the
    process runs.
    """
    package = Path(__file__).parents[1]
    files = (path for path in package.rglob("*") if path.suffix in DIGESTED_SUFFIXES)
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in files):
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    return {
        "erasepro-convert": __version__,
        "its files": digest.hexdigest()[:16],
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def library_versions(names: Iterable[str]) -> SoftwareVersions:
    """Return the versions of Python and of some libraries, for a record."""
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def version_differences(theirs: SoftwareVersions, ours: SoftwareVersions) -> list[str]:
    """Describe each version that differs between another process and this one."""
    return [
        f"{name}: {theirs.get(name, 'none')}, here {ours[name]}"
        for name in ours
        if theirs.get(name) != ours[name]
    ]
