"""Digests: SHA-256 of files and of JSON, BLAKE3 of tensors.

What others compare is SHA-256, since that is what they compute.  Tensors have BLAKE3, which takes a
third of the time.

The digest of a tensor covers its name (in the original spelling), dtype, shape and values and
nothing else.  A copy that was saved in another order, container or spelling has the same digest.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

from blake3 import blake3

Algorithm = Literal["blake3", "sha256"]
"""What digests of tensors are made with; before manifests of schema 4 it was SHA-256."""

TENSORS: Algorithm = "blake3"
"""What new digests of tensors are made with."""


class Hash(Protocol):
    """A digest that bytes are still added to."""

    def update(self, data: memoryview, /) -> object:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of the bytes added so far."""


_BEGIN: dict[Algorithm, Callable[[bytes], Hash]] = {"blake3": blake3, "sha256": hashlib.sha256}


def begin_tensor_digest(
    name: str, dtype: str, shape: Sequence[int], algorithm: Algorithm = TENSORS
) -> Hash:
    """Begin the digest of a tensor; its values are to follow packed, row-major, little-endian.

    The digest begins with ``[name, dtype, shape]`` as JSON without white space, and a newline.
    """
    head = json.dumps([name, dtype, list(shape)], ensure_ascii=False, separators=(",", ":"))
    return _BEGIN[algorithm](f"{head}\n".encode())


def tensor_digest(
    name: str,
    dtype: str,
    shape: Sequence[int],
    chunks: Iterable[memoryview],
    algorithm: Algorithm = TENSORS,
) -> str:
    """Return the digest of a tensor whose values come in chunks."""
    digest = begin_tensor_digest(name, dtype, shape, algorithm)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def tensors_digest(digests: Mapping[str, str], algorithm: Algorithm = TENSORS) -> str:
    """Return one digest over all tensors: that of their lines ``digest  name``, sorted by name."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return _BEGIN[algorithm]("".join(lines).encode()).hexdigest()


def files_digest(digests: Sequence[str]) -> str:
    """Return one digest of all weight files: that of a single file, or one over their digests."""
    return digests[0] if len(digests) == 1 else json_digest(sorted(digests))


def canonical_json(data: object) -> str:
    """Return JSON with sorted keys and no white space, so that there is one way to write it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def pretty_json(data: object) -> str:
    """Return JSON that people read too: sorted keys, indented, with a final newline."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def schema_text(schema: dict[str, object]) -> str:
    """Return a JSON Schema as it is shipped."""
    return pretty_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def json_digest(data: object) -> str:
    """Return the digest of ``data`` as canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()
