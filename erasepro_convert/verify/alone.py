"""Verification from the manifest alone: itself, files, metadata, every tensor."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from erasepro_convert.checkpoint import Checkpoint
from erasepro_convert.checkpoint.opened import Hashing, OpenFile
from erasepro_convert.digest import of_all, of_tensor
from erasepro_convert.errors import CheckpointError
from erasepro_convert.finding import Finding
from erasepro_convert.layout.keys import POSITION_IDS, PREDICTION_MARKERS, SCHEDULE_BUFFERS
from erasepro_convert.layout.spelling import spelling_of
from erasepro_convert.layout.vae import is_kept_as_matrix
from erasepro_convert.manifest import Manifest, WrittenTensor, manifest_path
from erasepro_convert.progress import Progress
from erasepro_convert.signature import signature_path


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
        pairs[f"AutoV2 of {read.name}"] = (read.sha256[:10], read.autov2)
    for file in output.files:
        pairs[f"AutoV2 of {file.name}"] = (file.sha256[:10], file.autov2)
    for name, (expected, found) in pairs.items():
        if expected != found:
            yield Finding("manifest", name, expected, found)
    for name in sorted({edit.name for edit in manifest.all_edits} - output.tensors.keys()):
        yield Finding("manifest", name, "a tensor of the output", "an edit of nothing")


def of_files(manifest: Manifest, target: Path) -> Iterator[Finding]:
    """Size and digests of each file, and files that nobody wrote."""
    several = target.is_dir()
    names = {file.name for file in manifest.output.files}
    for file in manifest.output.files:
        path = target / file.name if several else target
        if not path.resolve().is_relative_to(target.resolve()):
            yield Finding("manifest", file.name, "a file of the output", "a file elsewhere")
            continue
        if not path.exists():
            yield Finding("file", file.name, "there", "missing")
            continue
        try:
            opened = OpenFile(path)
            start = 8 + int.from_bytes(opened.read(0, min(8, opened.size)), "little")
            hashes = Hashing(opened, start, lambda done: None).finish()
        except CheckpointError as error:
            yield Finding("file", file.name, "a readable file", str(error))
            continue
        if file.size != opened.size:
            yield Finding("file", f"{file.name}: size", str(file.size), str(opened.size))
        if file.sha256 != hashes.sha256:
            yield Finding("file", f"{file.name}: SHA-256", file.sha256, hashes.sha256)
        if file.autov3 and file.autov3 != hashes.autov3:
            yield Finding("file", f"{file.name}: AutoV3", file.autov3, str(hashes.autov3))
    if several:
        ours = {path(target, folder=True).name for path in (manifest_path, signature_path)}
        there = {p.relative_to(target).as_posix() for p in target.rglob("*") if not p.is_dir()}
        for name in sorted(there - names - ours):
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
    names = [name for name in written if name in spelling.source]
    for number, name in enumerate(names, 1):
        found = _written(checkpoint, spelling.source[name], name, written[name])
        digests[name] = found.sha256
        for what in ("dtype", "shape", "sha256"):
            expected, actual = getattr(written[name], what), getattr(found, what)
            if expected != actual:
                findings.append(Finding("tensor", f"{name}: {what}", str(expected), str(actual)))
        progress("verify", number, len(names))
    return digests, findings


def _written(checkpoint: Checkpoint, old: str, name: str, expected: WrittenTensor) -> WrittenTensor:
    """A tensor of a file as the manifest would have it."""
    info = checkpoint.tensors[old]
    same = is_kept_as_matrix(name, info.shape, expected.shape)
    shape = expected.shape if same else info.shape
    digest = of_tensor(name, info.dtype, shape, checkpoint.chunks(old))
    return WrittenTensor(dtype=info.dtype, shape=shape, sha256=digest)
