"""What a file is, without converting it: everything that shows before any tensor is read."""

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
from erasepro_convert.storage.location import Location, redacted

OTHERS = "others"
TOLD = ("concepts", "recipe_sha256")
"""What is said of an earlier erasure."""


@dataclass(frozen=True)
class InspectedFile:
    """One file of a checkpoint; ``sha256`` and what is cut from it only where it was asked for."""

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

    ``refused`` says why it would not be converted (None: it would); ``tensors`` counts by part and
    dtype; ``left_out`` counts by reason what an output would not hold; ``facts`` are properties
    that change what a conversion does or what loaders do.
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


def inspect(path: Location, *, hashes: bool) -> Inspection:
    """Look at ``path``; ``hashes`` reads all of it once.  OSError passes through."""
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        return Inspection(redacted(path), refused=str(error))
    described = Inspection(
        redacted(path),
        refused=None,
        files=tuple(_file(file, hashes) for file in checkpoint.files),
        tensors=_tensors(checkpoint),
        metadata=checkpoint.metadata,
        asks_for=checkpoint.pickle_globals,
    )
    return _recognised(described, checkpoint)


def _recognised(described: Inspection, checkpoint: Checkpoint) -> Inspection:
    """With what the tensors' names and shapes tell."""
    try:
        source = recognise(checkpoint)
    except CheckpointError as error:
        return replace(described, refused=str(error))
    reasons = [*source.layout.dropped.values(), *checkpoint.skipped.values()]
    return replace(
        described,
        metadata=source.metadata,
        variant=source.layout.variant,
        evidence=source.layout.evidence,
        left_out=dict(Counter(reasons)),
        facts=tuple(_facts(source)),
    )


def _file(file: CheckpointFile, hashes: bool) -> InspectedFile:
    redacted = InspectedFile(file.name, file.file.size, file.container, file.autov1())
    if not hashes:
        return redacted
    digests = file.hashes()
    return replace(redacted, sha256=digests.sha256, autov2=digests.autov2, autov3=digests.autov3)


def _tensors(checkpoint: Checkpoint) -> dict[str, dict[str, int]]:
    """Numbers of tensors by part and dtype; second copies count with their part."""
    counts: dict[str, Counter[str]] = {}
    for name, info in checkpoint.tensors.items():
        part = component_of(name) or ("EMA" if name.startswith(EMA) else OTHERS)
        counts.setdefault(part, Counter())[info.dtype] += 1
    return {part: dict(count) for part, count in counts.items()}


def _facts(source: SD1Checkpoint) -> list[str]:
    facts = list(source.statements.facts)
    old = source.layout.source.get(POSITION_IDS)
    if old and source.checkpoint.tensors[old].dtype != "I64":
        facts.append(f"position_ids are {source.checkpoint.tensors[old].dtype}: to be repaired")
    for number, erasure in enumerate(erasures(source.metadata), 1):
        told = (f"{name} {erasure[name]}" for name in TOLD if name in erasure)
        facts.append(f"erased by erasepro-convert, {number}: {', '.join(told)}")
    if EMBEDDED in source.metadata:
        facts.append(f"carries its manifest in {EMBEDDED}")
    if source.layout.renamed:
        facts.append(
            f"{counted(len(source.layout.renamed), 'tensor')} in another spelling: to be renamed"
        )
    return facts
