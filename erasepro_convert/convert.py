"""The main job, start to end: recipe and checkpoint in, erased checkpoint and manifest out."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic

from erasepro_convert import __version__
from erasepro_convert.attempt import Progress, attempt
from erasepro_convert.checkpoint import Checkpoint, InputHashes
from erasepro_convert.dtypes import OPTIONS, Option, torch_dtype
from erasepro_convert.erase import Edit
from erasepro_convert.errors import LimitError, UsageError
from erasepro_convert.layout import Layout
from erasepro_convert.limits import exceeded
from erasepro_convert.manifest import (
    DroppedEntry,
    InputFile,
    Manifest,
    OutputFile,
    RenamedTensor,
    Tensors,
    Tool,
    Variant,
    VariesBetweenRuns,
    manifest_path,
)
from erasepro_convert.metadata import output_metadata
from erasepro_convert.outputs import output_tensors, require_readable
from erasepro_convert.recipe import Recipe
from erasepro_convert.source import open_source
from erasepro_convert.tune import tune
from erasepro_convert.writer import OutputTensor, Written, replacing, stream


@dataclass(frozen=True)
class Options:
    """What a user can ask for beside the recipe.

    ``dtype`` (fp16, bf16, fp32) changes every floating tensor; ``private`` keeps the recipe's
    words out of the output's metadata; ``force`` replaces an existing output; ``dry_run`` does
    everything but write, even where a limit is exceeded; ``tune`` searches for the settings.
    """

    dtype: Option | None = None
    private: bool = False
    force: bool = False
    dry_run: bool = False
    tune: bool = False


def convert(
    recipe: Recipe, source: Path, target: Path, options: Options, progress: Progress
) -> Manifest:
    """Erase the recipe's concepts from ``source``; write ``target`` and its manifest.

    Raises UsageError for paths that do not work out, RecipeError for prompts that do not fit,
    CheckpointError for a file that is not a sound SD1.x checkpoint, LimitError when the result
    does not hold.  After any of them nothing has been written.
    """
    started, clock = datetime.now(UTC), monotonic()
    _check_paths(source, target, options)
    opened = open_source(source)
    checkpoint, layout = opened.checkpoint, opened.layout
    dtype = torch_dtype(OPTIONS[options.dtype]) if options.dtype else None
    if options.tune or recipe.settings == "auto":
        result, tuning = tune(opened, recipe, dtype, progress)
    else:
        result, tuning = attempt(opened, recipe, dtype, progress), None
    recipe, edits = result.recipe, result.edits
    records = tuple(edit.record for edit in edits.values())
    beyond = exceeded(recipe, result.probe, records)
    if beyond and not options.dry_run:
        raise LimitError("\n- ".join(("the result does not hold:", *beyond)))
    hashes = checkpoint.hashes(lambda done, total: progress("hash", done, total))
    tensors = output_tensors(checkpoint, layout, edits, options.dtype)
    metadata = output_metadata(
        checkpoint.contents.metadata,
        recipe,
        layout.variant,
        base=source.stem,
        private=options.private,
    )

    def finish(written: Written) -> Manifest:
        output = OutputFile(
            name=target.name,
            size=written.size,
            sha256=written.sha256,
            autov2=written.sha256[:10],
            autov3=written.autov3,
            written=not options.dry_run,
        )
        return Manifest(
            tool=Tool(version=__version__, libraries=_libraries()),
            recipe=recipe,
            recipe_sha256=recipe.digest,
            input=_input_record(checkpoint, hashes),
            output=output,
            variant=Variant(name=layout.variant, evidence=layout.evidence),
            tensors=_tensor_record(checkpoint, layout, edits, options),
            alignment=result.aligned.record,
            edits=records,
            probe=result.probe,
            tuning=tuning,
            exceeded=beyond,
            varies_between_runs=VariesBetweenRuns(
                started=started.isoformat(timespec="seconds"),
                seconds=round(monotonic() - clock, 3),
            ),
        )

    return _write(target, tensors, metadata, options, finish, progress)


def _write(
    target: Path,
    tensors: list[OutputTensor],
    metadata: dict[str, str],
    options: Options,
    finish: Callable[[Written], Manifest],
    progress: Progress,
) -> Manifest:
    """Write the checkpoint and, when its digests are known, the manifest; both or neither."""

    def report(done: int, total: int) -> None:
        progress("write", done, total)

    if options.dry_run:
        return finish(stream(tensors, metadata, lambda chunk: None, report))
    with replacing(manifest_path(target)) as record, replacing(target) as output:
        written = stream(tensors, metadata, output.write, report)
        output.flush()
        require_readable(output.name, {tensor.name for tensor in tensors})
        manifest = finish(written)
        record.write(manifest.to_json().encode())
    return manifest


def _check_paths(source: Path, target: Path, options: Options) -> None:
    """Refuse before any work what could only fail after it.  Raises UsageError."""
    if target.suffix != ".safetensors":
        raise UsageError(f"{target}: the output's name must end in .safetensors, UIs go by it")
    if not source.exists():
        raise UsageError(f"{source}: there is no such file")
    for path in (target, manifest_path(target)):
        if path.exists() and path.samefile(source):
            raise UsageError(f"{path}: input and output are the same file")
    if options.dry_run:
        return
    if not os.access(target.parent, os.W_OK) or not target.parent.is_dir():
        raise UsageError(f"{target.parent}: not a folder that can be written to")
    for path in (target, manifest_path(target)):
        if path.is_dir() or (path.exists() and not options.force):
            raise UsageError(f"{path}: exists already; --force replaces it")


def _input_record(checkpoint: Checkpoint, hashes: InputHashes) -> InputFile:
    return InputFile(
        name=checkpoint.name,
        size=checkpoint.size,
        container=checkpoint.container,
        sha256=hashes.sha256,
        autov2=hashes.sha256[:10],
        autov3=hashes.autov3,
    )


def _tensor_record(
    checkpoint: Checkpoint, layout: Layout, edits: dict[str, Edit], options: Options
) -> Tensors:
    entries = [*layout.dropped.items(), *checkpoint.contents.others.items()]
    dropped = [DroppedEntry(name=name, reason=reason) for name, reason in entries]
    renamed = [
        RenamedTensor(input_name=old, output_name=new) for old, new in layout.renamed.items()
    ]
    return Tensors(
        written=len(layout.source),
        edited=len(edits),
        dtype=options.dtype,
        dropped=tuple(sorted(dropped, key=lambda entry: entry.name)),
        renamed=tuple(sorted(renamed, key=lambda entry: entry.output_name)),
    )


def _libraries() -> dict[str, str]:
    """Versions of what the output's bytes depend on."""
    names = ("numpy", "safetensors", "tokenizers", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
