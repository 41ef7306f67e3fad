"""Verification from the manifest alone: of the manifest, files, metadata and every tensor."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from erasepro_convert.checkpoint import Checkpoint
from erasepro_convert.checkpoint.file import open_for_reading
from erasepro_convert.checkpoint.open_file import FileHasher
from erasepro_convert.checkpoint.safetensors_file import LENGTH
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import (
    LoraRecord,
    Manifest,
    OutputFile,
    WrittenTensor,
    manifest_path,
)
from erasepro_convert.manifest.signature import signature_path
from erasepro_convert.output.output_tensors import position_ids
from erasepro_convert.runtime.hashing import Algorithm, tensor_digest, tensors_digest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.keys import (
    EMA,
    POSITION_IDS,
    POSITIONS,
    PREDICTION_MARKERS,
    SCHEDULE_BUFFERS,
)
from erasepro_convert.sd1.spelling import resolve_spelling
from erasepro_convert.sd1.vae import is_kept_as_matrix
from erasepro_convert.storage.listing import exists, files_below, is_folder
from erasepro_convert.storage.location import Location, file_name, is_within
from erasepro_convert.verification.finding import Finding


def verify_manifest(manifest: Manifest) -> Iterator[Finding]:
    """Check a manifest's statements about itself."""
    output = manifest.output
    digests = {name: tensor.digest for name, tensor in output.tensors.items()}
    pairs = {
        "manifest_sha256": (manifest.digest(), manifest.manifest_sha256),
        "recipe_sha256": (manifest.recipe.digest, manifest.recipe_sha256),
        "output.metadata.erasepro.recipe_sha256": (
            manifest.recipe_sha256,
            output.metadata.get("erasepro.recipe_sha256", "none"),
        ),
        f"output.tensors_{output.algorithm}": (
            tensors_digest(digests, output.algorithm),
            output.tensors_digest,
        ),
        "output.written": ("True", str(output.written)),
        "tensors.written": (str(len(output.tensors)), str(manifest.tensors.written)),
        "tensors.edited": (
            str(sum(edit.changed for edit in manifest.all_edits)),
            str(manifest.tensors.edited),
        ),
    }
    for read in manifest.input.files:
        if read.sha256:
            pairs[f"AutoV2 of {read.name}"] = (read.sha256[:10], str(read.autov2))
    for file in (*output.files, *([manifest.lora.file] if manifest.lora else [])):
        pairs[f"AutoV2 of {file.name}"] = (file.sha256[:10], file.autov2)
    for name, (expected, found) in pairs.items():
        if expected != found:
            yield Finding("manifest", name, expected, found)
    for name in sorted({edit.name for edit in manifest.all_edits} - output.tensors.keys()):
        yield Finding("manifest", name, "a tensor of the output", "an edit of nothing")


def verify_files(manifest: Manifest, target: Location) -> Iterator[Finding]:
    """Check the size and the digests of each file, and list files that the manifest lacks."""
    target_is_folder = is_folder(target)
    names = {file.name for file in manifest.output.files}
    for file in manifest.output.files:
        path = target / file.name if target_is_folder else target
        if not is_within(path, target):
            yield Finding("manifest", file.name, "a file of the output", "a file elsewhere")
        elif not exists(path):
            yield Finding("file", file.name, "there", "missing")
        else:
            yield from _verify_file("file", file, path)
    if target_is_folder:
        records = {file_name(path(target, folder=True)) for path in (manifest_path, signature_path)}
        for name in sorted(files_below(target) - names - records):
            yield Finding("file", name, "not there", "there")


def verify_lora(lora: LoraRecord, path: Location) -> Iterator[Finding]:
    """Check the size and the digests of the output's LoRA."""
    yield from _verify_file("lora", lora.file, path)


def _verify_file(kind: str, file: OutputFile, path: Location) -> Iterator[Finding]:
    """Compare a file with what was written."""
    try:
        opened = open_for_reading(path)
        header_length = opened.read(0, min(LENGTH, opened.size))
        content_start = LENGTH + int.from_bytes(header_length, "little")
        hashes = FileHasher(
            opened.prefetching([(0, opened.size)]),
            content_start if file.autov3 else None,
            lambda done: None,
        ).finish()
    except CheckpointError as error:
        yield Finding(kind, file.name, "a readable file", str(error))
        return
    if file.size != opened.size:
        yield Finding(kind, file.name, str(file.size), str(opened.size), "size")
    if file.sha256 != hashes.sha256:
        yield Finding(kind, file.name, file.sha256, hashes.sha256, "SHA-256")
    if file.autov3 and file.autov3 != hashes.autov3:
        yield Finding(kind, file.name, file.autov3, str(hashes.autov3), "AutoV3")


def verify_metadata(manifest: Manifest, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Compare each entry of each file's header with what was written."""
    for file in checkpoint.files:
        written, found = manifest.output.metadata, file.parsed.metadata
        for key in sorted(written.keys() | found.keys()):
            if written.get(key) != found.get(key):
                expected, actual = (json.dumps(side.get(key)) for side in (written, found))
                yield Finding("metadata", file.name, expected, actual, key)


@dataclass(frozen=True)
class ComparedTensors:
    """The result of comparing a file's tensors with the manifest.

    ``digests`` has the digest of each of the manifest's tensors that the file has, by original
    name.  ``absent`` names tensors that the file lacks and that a copy may lack.
    """

    digests: Mapping[str, str]
    absent: tuple[str, ...]
    findings: list[Finding]


def verify_tensors(
    manifest: Manifest, checkpoint: Checkpoint, progress: Progress, *, is_copy: bool
) -> ComparedTensors:
    """Compare each tensor of a file with the manifest's.

    Containers differ in what they can hold beside weights.  A copy (``is_copy``) may lack such
    tensors, and may have position ids, which are the same in every model.
    """
    written, algorithm = manifest.output.tensors, manifest.output.algorithm
    spelling = resolve_spelling(checkpoint.tensors)
    missing = [name for name in written if name not in spelling.source]
    absent = [name for name in missing if is_copy and _is_optional(name)]
    findings = [
        Finding("tensor", name, "there", "missing") for name in missing if name not in absent
    ]
    known = {POSITION_IDS: _position_ids(algorithm), **written} if is_copy else written
    unknown = [own for name, own in spelling.source.items() if name not in known]
    findings += [
        Finding("tensor", name, "not there", "there")
        for name in sorted([*unknown, *spelling.copies])
    ]
    digests = {}
    original_names = {own: name for name, own in spelling.source.items() if name in known}
    order = checkpoint.in_order(original_names)
    chunks = checkpoint.prefetching(order)
    deviating: list[Finding] = []
    for number, own_name in enumerate(order, 1):
        name = original_names[own_name]
        found = _describe_tensor(
            checkpoint, own_name, name, known[name], chunks(own_name), algorithm
        )
        deviating += _deviations(name, known[name], found)
        if name in written:
            digests[name] = found.digest
        progress("verify", number, len(original_names))
    findings += sorted(deviating, key=lambda finding: finding.name)
    return ComparedTensors(digests, tuple(absent), findings)


def _is_optional(name: str) -> bool:
    """Whether a sound copy may lack a tensor: a diffusers folder has no place for these."""
    beside_weights = (POSITION_IDS, *SCHEDULE_BUFFERS, *PREDICTION_MARKERS)
    return name in beside_weights or name.startswith(EMA)


def _position_ids(algorithm: Algorithm) -> WrittenTensor:
    """Describe the position ids, which are the same in every model."""
    shape = (1, POSITIONS)
    digest = tensor_digest(POSITION_IDS, "I64", shape, position_ids(), algorithm)
    return WrittenTensor(dtype="I64", shape=shape, **{algorithm: digest})


def _deviations(name: str, expected: WrittenTensor, found: WrittenTensor) -> Iterator[Finding]:
    """Compare type and shape, and values only where both agree: a digest covers all three."""
    if expected.dtype != found.dtype:
        yield Finding("tensor", name, expected.dtype, found.dtype, "dtype")
    if expected.shape != found.shape:
        yield Finding("tensor", name, str(expected.shape), str(found.shape), "shape")
    has_equal_form = (expected.dtype, expected.shape) == (found.dtype, found.shape)
    if has_equal_form and expected.digest != found.digest:
        yield Finding("tensor", name, expected.digest, found.digest, "digest")


def _describe_tensor(
    checkpoint: Checkpoint,
    own_name: str,
    name: str,
    expected: WrittenTensor,
    chunks: Iterator[memoryview],
    algorithm: Algorithm,
) -> WrittenTensor:
    """Describe a tensor of a file in the form of the manifest.

    ``own_name`` is its name in the file, ``name`` its original one.
    """
    info = checkpoint.tensors[own_name]
    is_matrix = is_kept_as_matrix(name, info.shape, expected.shape)
    shape = expected.shape if is_matrix else info.shape
    digest = tensor_digest(name, info.dtype, shape, chunks, algorithm)
    return WrittenTensor(dtype=info.dtype, shape=shape, **{algorithm: digest})
