"""Inspect a checkpoint without converting it: report what is known before tensors are read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from erasepro_convert.checkpoint import Checkpoint, CheckpointFile, open_checkpoint
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest.safetensors_metadata import EMBEDDED, erasures
from erasepro_convert.runtime.wording import counted
from erasepro_convert.sd1.keys import EMA, POSITION_IDS
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, recognise
from erasepro_convert.sd1.spelling import component_of
from erasepro_convert.storage.location import Location, locate, redacted

OTHERS = "others"
"""The part of tensors that belong to no component."""
ERASURE_FIELDS = ("concepts", "recipe_sha256")
"""The fields of an earlier erasure that are reported."""


@dataclass(frozen=True)
class InspectedFile:
    """One file of a checkpoint; its SHA-256 and the hashes made from it are optional."""

    name: str
    size: int
    container: str
    autov1: str
    sha256: str | None = None
    autov2: str | None = None
    autov3: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What was found in a checkpoint.

    ``refused`` says why it would not be converted (None: it would).  ``tensors`` counts tensors by
    part and dtype; ``left_out`` counts, by reason, the entries that an output would not hold.
    ``facts`` are properties that change what a conversion or a loader does.  ``asks_for`` are the
    globals that pickles name.
    """

    path: str
    refused: str | None
    files: tuple[InspectedFile, ...] = ()
    variant: str | None = None
    evidence: tuple[str, ...] = ()
    tensors: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    asks_for: tuple[str, ...] = ()


def inspect(path: "Location | str", *, hashes: bool = False) -> Inspection:
    """Inspect a checkpoint at a path or a URL; nothing in it is run.

    A checkpoint that would be refused is no error: ``refused`` says why.  ``hashes`` reads all of
    it once.  Raises StorageError when a store fails; OSError passes through.
    """
    path = locate(path)
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        return Inspection(redacted(path), refused=str(error))
    inspection = Inspection(
        redacted(path),
        refused=None,
        files=tuple(_inspect_file(file, with_hashes=hashes) for file in checkpoint.files),
        tensors=_tensors(checkpoint),
        metadata=checkpoint.metadata,
        asks_for=checkpoint.pickle_globals,
    )
    return _with_layout(inspection, checkpoint)


def _with_layout(inspection: Inspection, checkpoint: Checkpoint) -> Inspection:
    """Add what the names and shapes of the tensors tell."""
    try:
        source = recognise(checkpoint)
    except CheckpointError as error:
        return replace(inspection, refused=str(error))
    reasons = [*source.layout.dropped.values(), *checkpoint.skipped.values()]
    return replace(
        inspection,
        metadata=source.metadata,
        variant=source.layout.variant,
        evidence=source.layout.evidence,
        left_out=dict(Counter(reasons)),
        facts=tuple(_facts(source)),
    )


def _inspect_file(file: CheckpointFile, *, with_hashes: bool) -> InspectedFile:
    inspected = InspectedFile(file.name, file.file.size, file.container, file.autov1())
    if not with_hashes:
        return inspected
    digests = file.hashes(autov3=True)
    return replace(inspected, sha256=digests.sha256, autov2=digests.autov2, autov3=digests.autov3)


def _tensors(checkpoint: Checkpoint) -> dict[str, dict[str, int]]:
    """Count tensors by part and dtype; second copies count with their part."""
    counts: dict[str, Counter[str]] = {}
    for name, info in checkpoint.tensors.items():
        part = component_of(name) or ("EMA" if name.startswith(EMA) else OTHERS)
        counts.setdefault(part, Counter())[info.dtype] += 1
    return {part: dict(count) for part, count in counts.items()}


def _facts(source: SD1Checkpoint) -> list[str]:
    """Say what changes how a conversion or a loader treats the checkpoint."""
    facts = list(source.statements.facts)
    input_name = source.layout.source.get(POSITION_IDS)
    if input_name and (dtype := source.checkpoint.tensors[input_name].dtype) != "I64":
        facts.append(f"position_ids are {dtype}: to be repaired")
    for number, erasure in enumerate(erasures(source.metadata), 1):
        reported = (f"{name} {erasure[name]}" for name in ERASURE_FIELDS if name in erasure)
        facts.append(f"erased by erasepro-convert, {number}: {', '.join(reported)}")
    if EMBEDDED in source.metadata:
        facts.append(f"carries its manifest in {EMBEDDED}")
    if source.layout.renamed:
        facts.append(
            f"{counted(len(source.layout.renamed), 'tensor')} in another spelling: to be renamed"
        )
    return facts
