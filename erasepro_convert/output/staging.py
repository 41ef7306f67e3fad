"""Put an output into its place: a file, an object or a folder, with its manifest, or nothing.

An output is staged first: written where nobody takes it for an output, and read back.  Its manifest
is made of what was staged.  Then all of it shows at once.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import safetensors

from erasepro_convert.manifest import Manifest, Output, OutputFile, WrittenTensor, manifest_path
from erasepro_convert.manifest.signature import Sign, signature_path
from erasepro_convert.output.safetensors_writer import Sink, WeightFile, stream
from erasepro_convert.output.write_plan import WritePlan
from erasepro_convert.runtime.hashing import TENSORS, Algorithm, tensors_digest
from erasepro_convert.runtime.scratch import temporary_file
from erasepro_convert.runtime.signals import uninterrupted
from erasepro_convert.storage.atomic import replacing, replacing_folder, sync
from erasepro_convert.storage.location import Location
from erasepro_convert.storage.upload import Upload, remove, uploading

if TYPE_CHECKING:
    from upath import UPath

Progress = Callable[[int, int], None]
"""Gets the bytes written so far and the bytes in all."""


class Stage(Protocol):
    """A place where an output is written before it shows."""

    def writing(self, path: str, weights: WeightFile | None) -> AbstractContextManager[Sink]:
        """Open the file that will be at ``path`` in the output.

        When the block ends the file is secured, and one with ``weights`` is opened by the
        safetensors library.  Raises RuntimeError where the library does not find the tensors.
        """

    def writing_lora(self, weights: WeightFile) -> AbstractContextManager[Sink]:
        """Open the LoRA's file, which appears with the output; it is secured and opened too."""

    def complete(self, manifest: Manifest) -> None:
        """Add the manifest, and the signature where one was asked for."""


@contextmanager
def staging(
    target: Location,
    *,
    folder: bool = False,
    dry_run: bool = False,
    sign: Sign | None = None,
    lora: Path | None = None,
) -> Iterator[Stage]:
    """Give a stage for ``target``, and for a ``lora`` where one goes with an output that is here.

    What was completed shows when the block ends well; else nothing changes.  A dry run does all of
    it but keeps nothing.  Raises OSError or StorageError for a place that fails.
    """
    if dry_run:
        yield DiscardingStage()
    elif not isinstance(target, Path):
        with uploading(target) as checkpoint:
            yield ObjectStage(target, checkpoint)
    elif folder:
        with replacing_folder(target, *([lora] if lora else [])) as (staged, beside):
            yield FolderStage(staged, sign, *beside)
    else:
        places = {"checkpoint": target, "manifest": manifest_path(target)}
        places |= {"signature": signature_path(target)} if sign else {}
        places |= {"lora": lora} if lora else {}
        with replacing(*places.values()) as files:
            yield FileStage(target, dict(zip(places, files, strict=True)), sign)


class DiscardingStage:
    """Keeps nothing."""

    def writing(self, path: str, weights: WeightFile | None) -> BinaryIO:
        """See Stage."""
        return open(os.devnull, "wb")

    def writing_lora(self, weights: WeightFile) -> BinaryIO:
        """See Stage."""
        return open(os.devnull, "wb")

    def complete(self, manifest: Manifest) -> None:
        """See Stage."""


class FileStage:
    """Hidden files beside the places of checkpoint, manifest, signature and LoRA."""

    def __init__(self, target: Path, files: Mapping[str, BinaryIO], sign: Sign | None) -> None:
        self._target = target
        self._files = files
        self._sign = sign

    @contextmanager
    def writing(self, path: str, weights: WeightFile | None) -> Iterator[BinaryIO]:
        """See Stage."""
        yield self._files["checkpoint"]
        _check_on_disk(self._files["checkpoint"], weights)

    @contextmanager
    def writing_lora(self, weights: WeightFile) -> Iterator[BinaryIO]:
        """See Stage."""
        yield self._files["lora"]
        _check_on_disk(self._files["lora"], weights)

    def complete(self, manifest: Manifest) -> None:
        """See Stage."""
        record = self._files["manifest"]
        record.write(manifest.to_json().encode())
        record.flush()
        if self._sign:
            files = {
                self._target.name: Path(self._files["checkpoint"].name),
                manifest_path(self._target).name: Path(record.name),
            }
            self._files["signature"].write(self._sign(files))


class FolderStage:
    """A hidden folder beside the output's, and a hidden file beside the LoRA's place."""

    def __init__(self, folder: Path, sign: Sign | None, *lora: BinaryIO) -> None:
        self._folder = folder
        self._sign = sign
        self._lora = lora

    @contextmanager
    def writing(self, path: str, weights: WeightFile | None) -> Iterator[BinaryIO]:
        """See Stage."""
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        with open(self._folder / path, "xb") as file:
            yield file
            _check_on_disk(file, weights)

    @contextmanager
    def writing_lora(self, weights: WeightFile) -> Iterator[BinaryIO]:
        """See Stage."""
        (file,) = self._lora
        yield file
        _check_on_disk(file, weights)

    def complete(self, manifest: Manifest) -> None:
        """See Stage."""
        folder = self._folder
        with open(manifest_path(folder, folder=True), "xb") as record:
            record.write(manifest.to_json().encode())
            sync(record)
        if self._sign:
            files = [path for path in folder.rglob("*") if path.is_file()]
            with open(signature_path(folder, folder=True), "xb") as signature:
                signature.write(self._sign({p.relative_to(folder).as_posix(): p for p in files}))
                sync(signature)


class ObjectStage:
    """An upload that shows when it is complete.

    The manifest is uploaded when the checkpoint is there: an object without a manifest that states
    its digest does not count.  Should the manifest fail, the checkpoint is removed.
    """

    def __init__(self, target: "UPath", checkpoint: Upload) -> None:
        self._target = target
        self._checkpoint = checkpoint

    @contextmanager
    def writing(self, path: str, weights: WeightFile | None) -> Iterator[Upload]:
        """See Stage.  What the library opens is the header, with nothing behind it."""
        yield self._checkpoint
        self._checkpoint.close()
        if weights:
            with temporary_file() as copy:
                copy.write(weights.header)
                copy.truncate(len(weights.header) + weights.nbytes)  # a hole, which takes no room
                copy.flush()
                _require_readable(copy.name, weights)

    def writing_lora(self, weights: WeightFile) -> AbstractContextManager[Sink]:
        """See Stage.  It is refused before any work: a LoRA goes with an output that is here."""
        raise NotImplementedError

    def complete(self, manifest: Manifest) -> None:
        """See Stage."""
        with uploading(manifest_path(self._target)) as record, uninterrupted():
            record.write(manifest.to_json().encode())
            record.close()
            self._checkpoint.commit()
            try:
                record.commit()
            except BaseException:
                remove(self._target)
                raise


def write(
    plan: WritePlan,
    stage: Stage,
    progress: Progress,
    *,
    autov3: bool = False,
    algorithm: Algorithm = TENSORS,
) -> Output:
    """Write all files of a plan into ``stage``; the account of them for the manifest.

    ``autov3`` asks for that digest of weight files too, ``algorithm`` is that of tensors' digests.
    """
    total = sum(file.nbytes for file in plan.weights.values())
    before = 0
    files = []
    tensors: dict[str, WrittenTensor] = {}
    for path, file in plan.weights.items():
        start = before

        def report(done: int, _: int) -> None:
            progress(min(start + done, total), total)  # noqa: B023  # called in this turn

        with stage.writing(path, file) as sink:
            written = stream(file, sink, report, autov3=autov3, algorithm=algorithm)
        files.append(_output_file(path, written.size, written.sha256, written.autov3))
        for tensor in file.tensors:
            name, shape = tensor.original
            digest = written.tensors[name]
            tensors[name] = WrittenTensor(dtype=tensor.dtype, shape=shape, **{algorithm: digest})
        before += file.nbytes
    for path, content in plan.configurations.items():
        with stage.writing(path, None) as sink:
            sink.write(content)
        files.append(_output_file(path, len(content), hashlib.sha256(content).hexdigest(), None))
    digest = tensors_digest({name: t.digest for name, t in tensors.items()}, algorithm)
    return Output(
        name=plan.name,
        files=tuple(files),
        metadata=dict(plan.metadata),
        tensors=tensors,
        written=not isinstance(stage, DiscardingStage),
        **{f"tensors_{algorithm}": digest},
    )


def write_lora(name: str, weights: WeightFile, stage: Stage) -> OutputFile:
    """Write a LoRA that goes with the output into ``stage``; the account of it for the manifest.

    It has its AutoV3 too, by which Civitai and A1111 know a LoRA.
    """
    with stage.writing_lora(weights) as sink:
        written = stream(weights, sink, lambda done, total: None, autov3=True)
    return _output_file(name, written.size, written.sha256, written.autov3)


def _output_file(name: str, size: int, sha256: str, autov3: str | None) -> OutputFile:
    return OutputFile(name=name, size=size, sha256=sha256, autov2=sha256[:10], autov3=autov3)


def _check_on_disk(file: BinaryIO, weights: WeightFile | None) -> None:
    file.flush()
    if weights:
        _require_readable(file.name, weights)
    sync(file)


def _require_readable(path: str, weights: WeightFile) -> None:
    """Have the reference implementation open what we wrote before it takes anything's place."""
    expected = {tensor.name for tensor in weights.tensors}
    with safetensors.safe_open(path, framework="pt") as opened:
        found = set(opened.keys())
    if found != expected:
        raise RuntimeError(f"the safetensors library reads {len(found)} of {len(expected)} tensors")
