"""The manifest's account of one run."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from erasepro_convert import __version__
from erasepro_convert.checkpoint import FileHashes
from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.manifest import (
    ClipSkipFrom,
    DroppedEntry,
    EmaRecord,
    Input,
    InputFile,
    Manifest,
    Output,
    Previous,
    RenamedTensor,
    RepairedTensor,
    Stored,
    Tensors,
    Tool,
    Tuning,
    Variant,
    VariesBetweenRuns,
)
from erasepro_convert.runtime.dtypes import DtypeOption
from erasepro_convert.runtime.hashing import canonical_json
from erasepro_convert.sd1.keys import POSITION_IDS
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    from erasepro_convert.conversion.erasure import Erasure


@dataclass(frozen=True)
class Run:
    """What was read and what came of it; ``copy`` is the attempt on a kept EMA copy."""

    source: SD1Checkpoint
    hashes: tuple[FileHashes | None, ...]
    result: "Erasure"
    copy: "Erasure | None"
    tuning: Tuning | None
    clip_skip_from: ClipSkipFrom
    dtype: DtypeOption | None
    previous: Previous | None
    left_out: Mapping[str, str]
    """Tensors of the plan that the kind of output has no place for, with the reason."""


def build_manifest(
    run: Run, output: Output, exceeded: tuple[str, ...], varies: VariesBetweenRuns
) -> Manifest:
    """Everything that was done, from the run's parts."""
    result, copy = run.result, run.copy
    return Manifest(
        tool=Tool(version=__version__, libraries=_libraries()),
        recipe=result.recipe,
        recipe_sha256=result.recipe.digest,
        input=_input(run.source, run.hashes),
        previous=run.previous,
        output=output,
        variant=_variant(run),
        tensors=_tensors(run),
        alignment=result.aligned.record,
        edits=tuple(edit.record for edit in result.edits.values()),
        trained=result.trained,
        probe=result.probe,
        ema=EmaRecord(edits=tuple(edit.record for edit in copy.edits.values()), probe=copy.probe)
        if copy
        else None,
        tuning=run.tuning,
        exceeded=exceeded,
        varies_between_runs=varies,
    ).sealed()


def provenance(run: Run) -> str:
    """What a manifest can say before its file is written, as compact JSON to carry in it."""
    parts = {
        "tool": Tool(version=__version__, libraries=_libraries()),
        "recipe": run.result.recipe,
        "input": _input(run.source, run.hashes),
        "previous": run.previous,
        "variant": _variant(run),
        "probe": run.result.probe,
    }
    data = {name: part.model_dump(mode="json") if part else None for name, part in parts.items()}
    return canonical_json(data)


def _variant(run: Run) -> Variant:
    layout = run.source.layout
    return Variant(
        name=layout.variant,
        evidence=(*layout.evidence, *run.source.statements.unclear),
        clip_skip_from=run.clip_skip_from,
        ema=layout.ema,
    )


def _input(source: SD1Checkpoint, hashes: tuple[FileHashes | None, ...]) -> Input:
    return Input(
        name=source.checkpoint.name,
        files=tuple(
            InputFile(
                name=file.name,
                size=file.file.size,
                container=file.container,
                sha256=digests.sha256 if digests else None,
                autov2=digests.autov2 if digests else None,
                autov3=digests.autov3 if digests else None,
                stored=None if digests else _stored(file.file),
            )
            for file, digests in zip(source.checkpoint.files, hashes, strict=True)
        ),
    )


def _stored(file: File) -> Stored | None:
    if not isinstance(file, RemoteFile):
        return None
    stat = file.stat
    return Stored(
        etag=stat.etag,
        version=stat.version,
        modified=stat.modified,
        checksum=stat.checksum,
    )


def _tensors(run: Run) -> Tensors:
    layout = run.source.layout
    entries = {**layout.dropped, **run.source.checkpoint.skipped}
    entries |= {layout.source[name]: reason for name, reason in run.left_out.items()}
    dropped = [DroppedEntry(name=name, reason=reason) for name, reason in entries.items()]
    renamed = [
        RenamedTensor(input_name=old, output_name=new)
        for old, new in layout.renamed.items()
        if new not in run.left_out
    ]
    defect = run.source.position_ids_defect() if POSITION_IDS not in run.left_out else None
    changes = (*run.result.changes, *(run.copy.changes if run.copy else ()))
    return Tensors(
        written=len(layout.source) - len(run.left_out),
        edited=sum(change.changed for change in changes),
        dtype=run.dtype,
        dropped=tuple(sorted(dropped, key=lambda entry: entry.name)),
        renamed=tuple(sorted(renamed, key=lambda entry: entry.output_name)),
        repaired=(RepairedTensor(name=POSITION_IDS, defect=defect),) if defect else (),
    )


def _libraries() -> dict[str, str]:
    """Versions of what the output's bytes depend on."""
    names = ("numpy", "safetensors", "tokenizers", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
