"""Digests of tensors: BLAKE3, or SHA-256 in manifests of schema 3."""

import hashlib
import json

import pytest
from blake3 import blake3

from erasepro_convert.manifest import Output, WrittenTensor
from erasepro_convert.runtime.hashing import Algorithm, tensor_digest, tensors_digest

VALUES = bytes(range(24))
HEAD = b'["a.weight","F32",[2,3]]\n'
DIGESTS: dict[Algorithm, str] = {
    "blake3": blake3(HEAD + VALUES).hexdigest(),
    "sha256": hashlib.sha256(HEAD + VALUES).hexdigest(),
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_the_digest_of_a_tensor_is_that_of_its_head_and_values(algorithm: Algorithm) -> None:
    chunks = [memoryview(VALUES[:5]), memoryview(VALUES[5:])]
    assert tensor_digest("a.weight", "F32", (2, 3), chunks, algorithm) == DIGESTS[algorithm]


def test_a_known_digest_has_not_changed() -> None:
    """The hash of BLAKE3's own test vectors for no input, and one of ours, worked out once."""
    assert blake3().hexdigest().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    assert tensors_digest({"b": "2", "a": "1"}) == blake3(b"1  a\n2  b\n").hexdigest()


def output(of_all: dict[str, str], of_tensor: dict[str, str]) -> Output:
    tensors = {"a.weight": WrittenTensor(dtype="F32", shape=(2, 3), **of_tensor)}
    return Output(name="x", files=(), metadata={}, tensors=tensors, written=True, **of_all)


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_an_output_names_its_algorithm_once(algorithm: Algorithm) -> None:
    digest = DIGESTS[algorithm]
    made = output({f"tensors_{algorithm}": digest}, {algorithm: digest})
    assert made.algorithm == algorithm
    assert made.tensors_digest == made.tensors["a.weight"].digest == digest
    written = json.loads(made.model_dump_json())
    assert {name for name in written if name.startswith("tensors_")} == {f"tensors_{algorithm}"}
    assert written["tensors"]["a.weight"].keys() == {"dtype", "shape", algorithm}


@pytest.mark.parametrize(
    ("of_all", "of_tensor"),
    [
        (["blake3"], ["sha256"]),
        (["sha256"], ["blake3"]),
        (["blake3"], []),
        ([], ["blake3"]),
        (["blake3", "sha256"], ["blake3"]),
        (["blake3"], ["blake3", "sha256"]),
    ],
)
def test_mixed_and_missing_digests_are_refused(of_all: list[str], of_tensor: list[str]) -> None:
    digest = "0" * 64
    with pytest.raises(ValueError, match="either BLAKE3 or SHA-256"):
        output({f"tensors_{name}": digest for name in of_all}, dict.fromkeys(of_tensor, digest))
