"""One erasure in memory, measured: what conversion writes, and what tuning chooses among."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from erasepro_convert.clip.text_encoder import LAYER_PARAMETERS, ReadTensor
from erasepro_convert.erase import METHODS, Aligned, Edit, Model, align, change
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.manifest import Change, ProbeRecord, Trained
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.library_logging import silence_libraries
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.threads import one_thread
from erasepro_convert.sd1.keys import UNET
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.train.result import Fitted


@dataclass(frozen=True)
class Erasure:
    """Edits by tensor name, with what they rest on and what held-out prompts say of them."""

    recipe: Recipe
    aligned: Aligned
    edits: dict[str, Edit]
    probe: ProbeRecord
    trained: Trained | None = None
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    """Trained tensors that are no matrices of the text side, by name; they have no residual."""

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Everything that was edited, by tensor name."""
        return {name: edit.weight for name, edit in self.edits.items()} | self.others

    @property
    def changes(self) -> tuple[Change, ...]:
        """A record of each of them."""
        records = (edit.record for edit in self.edits.values())
        return (*records, *(self.trained.changes if self.trained else ()))

    def of_copy(self) -> "Erasure":
        """An attempt on an EMA copy, its edits under the names of the copy's tensors."""
        edits = {}
        for edit in self.edits.values():
            if edit.name.startswith(UNET):
                name = ema_name(edit.name)
                edits[name] = Edit(name, edit.weight, edit.record.model_copy(update={"name": name}))
        return replace(self, edits=edits)


def run_erasure(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    given: ReadTensor | None = None,
    state: Path | None = None,
    held: frozenset[str] = frozenset(),
) -> Erasure:
    """Run a recipe on a checkpoint in memory; ``dtype`` is the output's (None: each its own).

    ``held`` are targets that were erased from the checkpoint before: they are kept and measured.

    ``given`` reads weights that were edited before: then they are measured in place of solving.
    So are those of a gradient method, once they are trained; ``state`` is where training keeps
    what it needs to go on.

    What is solved does not depend on the number of threads.

    Raises RecipeError for prompts that do not fit, CheckpointError for features that are not
    finite, LimitError for an edited weight that is not, UsageError for a state that is none.
    """
    aligned = align(recipe, held)
    names = edited_tensors(recipe, source.layout.widths)
    fitted = None
    if recipe.training and given:
        fitted = Fitted({name: given(name) for name in names}, (), "")
    elif recipe.training:
        silence_libraries()  # that only a training imports
        from erasepro_convert.train.loop import train

        fitted = train(source, recipe, dtype, progress, state)
    read = lru_cache(maxsize=len(LAYER_PARAMETERS))(source.read)  # what is wanted twice in a row
    model = Model(read=read, dtype=dtype, edited=given, rows=source.rows)
    if fitted:
        model = replace(model, edited=lambda name: fitted.weights.get(name, model.stored(name)))
    edits: dict[str, Edit] = {}

    def edited(name: str) -> torch.Tensor:
        return edits[name].weight if name in edits else model.stored(name)

    with one_thread(), torch.inference_mode():
        progress("erase", 0, len(names))
        solved = METHODS[recipe.method](model, aligned, recipe) if aligned.record.prompts else ()
        for edit in solved:
            if edit.name in names:
                edits[edit.name] = edit
                progress("erase", len(edits), len(names))
        progress("probe", 0, 1)
        measured = measure_leak_and_drift(
            recipe, read, edited, (source.rows, model.stored_rows), held
        )
        progress("probe", 1, 1)
    if not fitted:
        return Erasure(recipe, aligned, edits, measured)
    others = {name: weight for name, weight in fitted.weights.items() if name not in edits}
    with torch.inference_mode():
        changes = tuple(change(name, read(name), weight) for name, weight in others.items())
    trained = Trained(device=fitted.device, losses=fitted.losses, changes=changes)
    return Erasure(recipe, aligned, edits, measured, trained, others)
