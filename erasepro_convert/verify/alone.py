"""Verification from the manifest alone: itself, files, metadata, every tensor."""

import json
from collections.abc import Iterator, Mapping

from erasepro_convert.checkpoint import Checkpoint
from erasepro_convert.checkpoint.opened import Hashing
from erasepro_convert.checkpoint.single import opened
from erasepro_convert.digest import of_all, of_tensor
from erasepro_convert.errors import CheckpointError
from erasepro_convert.finding import Finding
from erasepro_convert.layout.keys import POSITION_IDS, PREDICTION_MARKERS, SCHEDULE_BUFFERS
from erasepro_convert.layout.spelling import spelling_of
from erasepro_convert.layout.vae import is_kept_as_matrix
from erasepro_convert.manifest import Manifest, WrittenTensor, manifest_path
from erasepro_convert.progress import Progress
from erasepro_convert.ranges import exists
from erasepro_convert.signature import signature_path
from erasepro_convert.storage import Location, files_below, is_folder, is_within, name_of


def of_manifest(manifest: Manifest) -> Iterator[Finding]:
    """Statements of a manifest about itself."""
    output = manifest.output
    digests = {name: tensor.sha256 for name, tensor in output.tensors.items()}
    pairs = {
        "manifest_sha256": (manifest.digest(), manifest.manifest_sha256),
        "recipe_sha256": (manifest.recipe.digest, manifest.recipe_sha256),
        "output.metadata.erasepro.recipe_sha256": (
            manifest.recipe_sha256,
            output.metadata.get("erasepro.recipe_sha256", "none"),
        ),
        "output.tensors_sha256": (of_all(digests), output.tensors_sha256),
        "output.written": ("True", str(output.written)),
        "tensors.written": (str(len(output.tensors)), str(manifest.tensors.written)),
    }
    for read in manifest.input.files:
        if read.sha256:
            pairs[f"AutoV2 of {read.name}"] = (read.sha256[:10], str(read.autov2))
    for file in output.files:
        pairs[f"AutoV2 of {file.name}"] = (file.sha256[:10], file.autov2)
    for name, (expected, found) in pairs.items():
        if expected != found:
            yield Finding("manifest", name, expected, found)
    for name in sorted({edit.name for edit in manifest.all_edits} - output.tensors.keys()):
        yield Finding("manifest", name, "a tensor of the output", "an edit of nothing")


def of_files(manifest: Manifest, target: Location) -> Iterator[Finding]:
    """Size and digests of each file, and files that nobody wrote."""
    several = is_folder(target)
    names = {file.name for file in manifest.output.files}
    for file in manifest.output.files:
        path = target / file.name if several else target
        if not is_within(path, target):
            yield Finding("manifest", file.name, "a file of the output", "a file elsewhere")
            continue
        if not exists(path):
            yield Finding("file", file.name, "there", "missing")
            continue
        try:
            read = opened(path)
            start = 8 + int.from_bytes(read.read(0, min(8, read.size)), "little")
            hashes = Hashing(read.ahead([(0, read.size)]), start, lambda done: None).finish()
        except CheckpointError as error:
            yield Finding("file", file.name, "a readable file", str(error))
            continue
        if file.size != read.size:
            yield Finding("file", f"{file.name}: size", str(file.size), str(read.size))
        if file.sha256 != hashes.sha256:
            yield Finding("file", f"{file.name}: SHA-256", file.sha256, hashes.sha256)
        if file.autov3 and file.autov3 != hashes.autov3:
            yield Finding("file", f"{file.name}: AutoV3", file.autov3, str(hashes.autov3))
    if several:
        ours = {name_of(path(target, folder=True)) for path in (manifest_path, signature_path)}
        for name in sorted(files_below(target) - names - ours):
            yield Finding("file", name, "not there", "there")


def of_metadata(manifest: Manifest, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Each entry of each file's header that is not as it was written."""
    for file in checkpoint.files:
        written, found = manifest.output.metadata, file.contents.metadata
        for key in sorted(written.keys() | found.keys()):
            if written.get(key) != found.get(key):
                shown = (json.dumps(side.get(key)) for side in (written, found))
                yield Finding("metadata", f"{file.name}: {key}", *shown)


def of_tensors(
    manifest: Manifest, checkpoint: Checkpoint, progress: Progress
) -> tuple[Mapping[str, str], list[Finding]]:
    """The digest of each tensor that is there, by original name, and what deviates."""
    written = manifest.output.tensors
    spelling = spelling_of(checkpoint.tensors)
    is_diffusers = spelling.prefixes["U-Net"] == "unet."
    no_place = {POSITION_IDS, *SCHEDULE_BUFFERS, *PREDICTION_MARKERS} if is_diffusers else set()
    findings = [
        Finding("tensor", name, "there", "missing")
        for name in written
        if name not in spelling.source and name not in no_place
    ]
    strangers = [old for new, old in spelling.source.items() if new not in written]
    findings += [
        Finding("tensor", name, "not there", "there")
        for name in sorted([*strangers, *spelling.copies])
    ]
    digests = {}
    names = {old: name for name, old in spelling.source.items() if name in written}
    order = checkpoint.in_order(names)
    chunks = checkpoint.ahead(order)
    deviating = []
    for number, old in enumerate(order, 1):
        name = names[old]
        found = _written(checkpoint, old, name, written[name], chunks(old))
        digests[name] = found.sha256
        for what in ("dtype", "shape", "sha256"):
            expected, actual = getattr(written[name], what), getattr(found, what)
            if expected != actual:
                deviating.append(Finding("tensor", f"{name}: {what}", str(expected), str(actual)))
        progress("verify", number, len(names))
    return digests, findings + sorted(deviating, key=lambda finding: finding.name)


def _written(
    checkpoint: Checkpoint,
    old: str,
    name: str,
    expected: WrittenTensor,
    chunks: Iterator[memoryview],
) -> WrittenTensor:
    """A tensor of a file as the manifest would have it."""
    info = checkpoint.tensors[old]
    same = is_kept_as_matrix(name, info.shape, expected.shape)
    shape = expected.shape if same else info.shape
    digest = of_tensor(name, info.dtype, shape, chunks)
    return WrittenTensor(dtype=info.dtype, shape=shape, sha256=digest)
