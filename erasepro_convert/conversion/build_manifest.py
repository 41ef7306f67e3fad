"""The manifest's account of one conversion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint import FileHashes
from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.conversion.preflight import Conversion
from erasepro_convert.manifest import (
    DroppedEntry,
    EmaRecord,
    Input,
    InputFile,
    LoraRecord,
    Manifest,
    Output,
    Previous,
    RenamedTensor,
    RepairedTensor,
    Stored,
    Tensors,
    Tool,
    Variant,
    VariesBetweenRuns,
    manifest_beside,
    manifest_path,
)
from erasepro_convert.runtime.hashing import canonical_json
from erasepro_convert.runtime.software_versions import library_versions
from erasepro_convert.runtime.stopwatch import Stopwatch
from erasepro_convert.runtime.version import __version__
from erasepro_convert.sd1.keys import POSITION_IDS
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.storage.listing import is_folder
from erasepro_convert.storage.location import Location, file_name
from erasepro_convert.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    from erasepro_convert.conversion.erase_checkpoint import CheckpointErasure

Hashes = tuple[FileHashes | None, ...]
"""The digests of each file of the input, None for one that was not read whole."""


def build_manifest(
    conversion: Conversion,
    erasure: "CheckpointErasure",
    hashes: Hashes,
    output: Output,
    left_out: Mapping[str, str],
    stopwatch: Stopwatch,
    lora: LoraRecord | None,
) -> Manifest:
    """Return the manifest of everything that was done, sealed with its own digest.

    ``left_out`` are tensors that the kind of output has no place for, and why.
    """
    main, ema = erasure.main, erasure.ema
    return Manifest(
        tool=_tool(),
        recipe=main.recipe,
        recipe_sha256=main.recipe.digest,
        input=_input(conversion.base, hashes),
        previous=_previous(conversion.source, hashes),
        output=output,
        variant=_variant(conversion),
        tensors=_tensors(conversion, erasure, left_out),
        synonyms=dict(erasure.synonyms),
        alignment=main.aligned.record,
        edits=tuple(edit.record for edit in main.edits.values()),
        trained=main.trained,
        probe=main.probe,
        ema=EmaRecord(edits=tuple(edit.record for edit in ema.edits.values()), probe=ema.probe)
        if ema
        else None,
        lora=lora,
        exceeded=erasure.exceeded,
        varies_between_runs=VariesBetweenRuns(started=stopwatch.started, seconds=stopwatch.seconds),
    ).sealed()


def provenance(conversion: Conversion, erasure: "CheckpointErasure", hashes: Hashes) -> str:
    """Return what a manifest can say before its file is written, as compact JSON to carry in it."""
    parts = {
        "tool": _tool(),
        "recipe": erasure.main.recipe,
        "input": _input(conversion.base, hashes),
        "previous": _previous(conversion.source, hashes),
        "variant": _variant(conversion),
        "probe": erasure.main.probe,
    }
    data = {name: part.model_dump(mode="json") if part else None for name, part in parts.items()}
    return canonical_json(data)


def _tool() -> Tool:
    """Return the program, and the versions of what the output's bytes depend on."""
    libraries = library_versions(("numpy", "safetensors", "tokenizers", "torch"))
    return Tool(version=__version__, libraries=libraries)


def _previous(source: Location, hashes: Hashes) -> Previous | None:
    """Return the manifest of an earlier erasure that lies beside the input and is true of it."""
    if None in hashes:
        return None  # nothing can be true of what was not read
    manifest = manifest_beside(source)
    if manifest is None:
        return None
    weights = {file.sha256 for file in manifest.output.files if file.is_weights}
    if weights != {digests.sha256 for digests in hashes if digests}:
        return None
    return Previous(
        name=file_name(manifest_path(source, folder=is_folder(source))),
        manifest_sha256=manifest.manifest_sha256,
        recipe_sha256=manifest.recipe_sha256,
    )


def _variant(conversion: Conversion) -> Variant:
    base = conversion.base
    return Variant(
        name=base.layout.variant,
        evidence=(*base.layout.evidence, *base.statements.unclear),
        clip_skip_from=conversion.clip_skip_from,
        ema=base.layout.ema,
    )


def _input(base: SD1Checkpoint, hashes: Hashes) -> Input:
    return Input(
        name=base.checkpoint.name,
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
            for file, digests in zip(base.checkpoint.files, hashes, strict=True)
        ),
    )


def _stored(file: File) -> Stored | None:
    """Return what a store states of an object; None for a local file."""
    if not isinstance(file, RemoteFile):
        return None
    stat = file.stat
    return Stored(
        etag=stat.etag,
        version=stat.version,
        modified=stat.modified,
        checksum=stat.checksum,
    )


def _tensors(
    conversion: Conversion, erasure: "CheckpointErasure", left_out: Mapping[str, str]
) -> Tensors:
    base, layout = conversion.base, conversion.base.layout
    entries = {**layout.dropped, **base.checkpoint.skipped}
    entries |= {layout.source[name]: reason for name, reason in left_out.items()}
    dropped = [DroppedEntry(name=name, reason=reason) for name, reason in entries.items()]
    renamed = [
        RenamedTensor(input_name=input_name, output_name=output_name)
        for input_name, output_name in layout.renamed.items()
        if output_name not in left_out
    ]
    defect = base.position_ids_defect() if POSITION_IDS not in left_out else None
    changes = (*erasure.main.changes, *(erasure.ema.changes if erasure.ema else ()))
    return Tensors(
        written=len(layout.source) - len(left_out),
        edited=sum(change.changed for change in changes),
        dtype=conversion.options.dtype,
        dropped=tuple(sorted(dropped, key=lambda entry: entry.name)),
        renamed=tuple(sorted(renamed, key=lambda entry: entry.output_name)),
        repaired=(RepairedTensor(name=POSITION_IDS, defect=defect),) if defect else (),
    )
