"""The LoRA that goes with an erasure: its factors, what they lack, and what that costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from erasepro_convert.checkpoint import FileHashes
from erasepro_convert.conversion.erasure import Erasure
from erasepro_convert.conversion.preflight import Conversion
from erasepro_convert.errors import UsageError
from erasepro_convert.manifest import LoraFile, LoraLoss, LoraRecord, ProbeRecord
from erasepro_convert.manifest.safetensors_metadata import lora_metadata
from erasepro_convert.output import staging
from erasepro_convert.output.lora import Factors, factorise, largest_rank, lora_file, loss_of
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.probing.limits import exceeded_measures
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.threads import parallel_results
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.storage.location import file_name


@dataclass(frozen=True)
class Lora:
    """Factors by the original names of their matrices, and the record of them.

    ``probe`` is None where every change is met to rounding.
    """

    factors: Mapping[str, Factors]
    loss: LoraLoss
    probe: ProbeRecord | None
    exceeded: tuple[str, ...]
    """A sentence for each limit of the recipe that the LoRA exceeds."""


def make_lora(base: SD1Checkpoint, erasure: Erasure, limit: int | None, progress: Progress) -> Lora:
    """Factorise what an erasure changed in the matrices of ``base``, with ranks up to ``limit``.

    Raises UsageError where it changed none.
    """
    weights = erasure.weights
    names = [change.name for change in erasure.changes if change.changed]
    if not names:
        raise UsageError("no matrix was changed, so a LoRA has nothing to hold: leave out --lora")
    alpha = max(largest_rank(weights[name].shape, limit) for name in names)

    def work(name: str) -> Factors:
        return factorise(base.read(name), weights[name], alpha, limit)

    progress("lora", 0, len(names))
    factors = {}
    for name, pair in zip(names, parallel_results(work, names), strict=True):
        factors[name] = pair
        progress("lora", len(factors), len(names))
    loss = loss_of(factors)
    if loss.exact == loss.matrices:
        return Lora(factors, loss, None, ())
    probe = _measure(base, erasure, factors)
    return Lora(factors, loss, probe, exceeded_measures(erasure.recipe, probe))


def _measure(base: SD1Checkpoint, erasure: Erasure, factors: Mapping[str, Factors]) -> ProbeRecord:
    """Measure ``base`` with the LoRA in it, in the types of its tensors."""

    def with_lora(name: str) -> Tensor:
        original = base.read(name)
        if name not in factors:
            return original
        return (original.double() + factors[name].product).to(original.dtype)

    held = erasure.aligned.record.held
    return measure_leak_and_drift(
        erasure.recipe, base.read, with_lora, (base.rows, base.rows), held
    )


def write_lora(
    conversion: Conversion,
    recipe: Recipe,
    lora: Lora,
    hashes: Sequence[FileHashes | None],
    stage: staging.Stage,
) -> LoraRecord:
    """Write the LoRA that was asked for, and return the record of it.

    ``recipe`` is as run, ``hashes`` are those of the input's files.
    """
    path = conversion.options.lora
    assert path
    metadata = lora_metadata(
        recipe,
        conversion.base.layout.variant,
        file_name(conversion.source),
        hashes[0].sha256 if len(hashes) == 1 and hashes[0] else None,
        lora.loss,
        ranks={pair.rank for pair in lora.factors.values()},
        alphas={pair.alpha for pair in lora.factors.values()},
        private=conversion.options.private,
    )
    file = staging.write_lora(path.name, lora_file(lora.factors, metadata), stage)
    return LoraRecord(file=LoraFile(**file.model_dump()), loss=lora.loss, probe=lora.probe)
