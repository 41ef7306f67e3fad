"""Put the output into its place: a file, an object or a folder, with its manifest, or nothing."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from erasepro_convert.checkpoint.safetensors_file import LENGTH, require_readable_header
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import Manifest, Output, OutputFile, WrittenTensor, manifest_path
from erasepro_convert.manifest.safetensors_metadata import EMBEDDED
from erasepro_convert.manifest.signature import Sign, signature_path
from erasepro_convert.output.plan import require_head_readable, require_readable
from erasepro_convert.output.safetensors_writer import (
    OutputTensor,
    Written,
    header,
    in_order,
    stream,
)
from erasepro_convert.runtime.hashing import tensors_digest
from erasepro_convert.runtime.printable import printable
from erasepro_convert.runtime.signals import uninterrupted
from erasepro_convert.storage.atomic import replacing, replacing_folder, sync
from erasepro_convert.storage.upload import Upload, remove, uploading

if TYPE_CHECKING:
    from upath import UPath


@dataclass(frozen=True)
class Plan:
    """What to write: tensors of each weight file, other files' contents, metadata.

    Files go by their path in the folder; where the output is one file, by its name.  Raises
    CheckpointError where no loader would read the header of a weight file: before there is any.
    """

    name: str
    weights: Mapping[str, Sequence[OutputTensor]]
    others: Mapping[str, bytes]
    metadata: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the headers."""
        for tensors in self.weights.values():
            try:
                require_readable_header(header(in_order(tensors), self.metadata)[LENGTH:])
            except CheckpointError as error:
                raise CheckpointError(
                    f"{self.name} cannot be written: {error}; {self._advice}"
                ) from error

    @property
    def _advice(self) -> str:
        """What to do about metadata that do not fit."""
        largest = max(self.metadata.keys() - {EMBEDDED}, key=lambda key: len(self.metadata[key]))
        size = len(self.metadata[largest].encode())
        other = "leave out --embed-manifest, or " if EMBEDDED in self.metadata else ""
        return f"{other}take {printable(largest)} ({size} bytes) out of the input's metadata"


Finish = Callable[[Output], Manifest]
Progress = Callable[[int, int], None]
Place = TypeVar("Place", BinaryIO, Upload)


def rehearse(plan: Plan, finish: Finish, progress: Progress) -> Manifest:
    """Do all of it but keep nothing."""

    def nowhere(path: str) -> BinaryIO:
        return open(os.devnull, "wb")

    output = _write(plan, nowhere, _nothing_there, progress)
    return finish(output.model_copy(update={"written": False}))


def write_file(
    plan: Plan, target: Path, finish: Finish, sign: Sign | None, progress: Progress
) -> Manifest:
    """Write the checkpoint and, when its digests are known, manifest and signature: all or none."""
    places = [target, manifest_path(target), *([signature_path(target)] if sign else [])]
    with replacing(*places) as (output, record, *signature):
        manifest = finish(_write(plan, lambda path: nullcontext(output), _on_disk, progress))
        record.write(manifest.to_json().encode())
        record.flush()
        if sign:
            files = {target.name: output.name, manifest_path(target).name: record.name}
            signature[0].write(sign({name: Path(path) for name, path in files.items()}))
    return manifest


def write_object(plan: Plan, target: "UPath", finish: Finish, progress: Progress) -> Manifest:
    """Upload the checkpoint as it is made and, when its digests are known, the manifest.

    The checkpoint shows when it is complete, the manifest last: an object without one that states
    its digest does not count.  Should the manifest fail, the checkpoint is removed.
    """
    with uploading(target) as checkpoint:
        manifest = finish(_write(plan, lambda path: nullcontext(checkpoint), _uploaded, progress))
        with uploading(manifest_path(target)) as record, uninterrupted():
            record.write(manifest.to_json().encode())
            record.close()
            checkpoint.commit()
            try:
                record.commit()
            except BaseException:
                remove(target)
                raise
    return manifest


def write_folder(
    plan: Plan, target: Path, finish: Finish, sign: Sign | None, progress: Progress
) -> Manifest:
    """Write a folder with manifest and signature in it, whole or not at all."""
    with replacing_folder(target) as folder:

        def create(path: str) -> BinaryIO:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            return open(folder / path, "xb")

        manifest = finish(_write(plan, create, _on_disk, progress))
        with open(manifest_path(folder, folder=True), "xb") as record:
            record.write(manifest.to_json().encode())
            sync(record)
        if sign:
            there = (path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path for path in there}
            with open(signature_path(folder, folder=True), "xb") as signature:
                signature.write(sign(files))
                sync(signature)
    return manifest


def _nothing_there(output: BinaryIO, written: Written | None, names: set[str]) -> None:
    """Check nothing."""


def _on_disk(output: BinaryIO, written: Written | None, names: set[str]) -> None:
    output.flush()
    if written:
        require_readable(output.name, names)
    sync(output)


def _uploaded(output: Upload, written: Written | None, names: set[str]) -> None:
    output.close()
    if written:
        require_head_readable(written.head, written.size, names)


def _write(
    plan: Plan,
    create: Callable[[str], AbstractContextManager[Place]],
    secure: Callable[[Place, Written | None, set[str]], None],
    progress: Progress,
) -> Output:
    """Write all files; ``secure`` is called for each, with what is known of a weight file."""
    total = sum(tensor.nbytes for tensors in plan.weights.values() for tensor in tensors)
    before = 0
    files = []
    records: dict[str, WrittenTensor] = {}
    for path, tensors in plan.weights.items():
        start = before

        def report(done: int, _: int) -> None:
            progress(min(start + done, total), total)  # noqa: B023  # called in this turn

        with create(path) as output:
            written = stream(tensors, plan.metadata, output, report)
            secure(output, written, {tensor.name for tensor in tensors})
        files.append(_record(path, written.size, written.sha256, written.autov3))
        for tensor in tensors:
            name, shape = tensor.original
            digest = written.tensors[name]
            records[name] = WrittenTensor(dtype=tensor.dtype, shape=shape, sha256=digest)
        before += sum(tensor.nbytes for tensor in tensors)
    for path, content in plan.others.items():
        with create(path) as output:
            output.write(content)
            secure(output, None, set())
        files.append(_record(path, len(content), hashlib.sha256(content).hexdigest(), None))
    return Output(
        name=plan.name,
        files=tuple(files),
        metadata=dict(plan.metadata),
        tensors=records,
        tensors_sha256=tensors_digest({name: record.sha256 for name, record in records.items()}),
        written=True,
    )


def _record(name: str, size: int, sha256: str, autov3: str | None) -> OutputFile:
    return OutputFile(name=name, size=size, sha256=sha256, autov2=sha256[:10], autov3=autov3)
