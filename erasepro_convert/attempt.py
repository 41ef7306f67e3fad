"""One erasure in memory, measured: what conversion writes, and what tuning chooses among."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from erasepro_convert.clip.text_encoder import LAYER_PARAMETERS, Read
from erasepro_convert.erase import METHODS, Aligned, Edit, Model, align
from erasepro_convert.layout import edited_names
from erasepro_convert.layout.keys import UNET
from erasepro_convert.layout.unet import ema_name
from erasepro_convert.manifest import ProbeRecord
from erasepro_convert.probe import probe
from erasepro_convert.progress import Progress
from erasepro_convert.recipe import Recipe
from erasepro_convert.source import Source
from erasepro_convert.threads import one_thread


@dataclass(frozen=True)
class Attempt:
    """Edits by tensor name, with what they rest on and what held-out prompts say of them."""

    recipe: Recipe
    aligned: Aligned
    edits: dict[str, Edit]
    probe: ProbeRecord

    def of_copy(self) -> "Attempt":
        """An attempt on an EMA copy, its edits under the names of the copy's tensors."""
        edits = {}
        for edit in self.edits.values():
            if edit.name.startswith(UNET):
                name = ema_name(edit.name)
                edits[name] = Edit(name, edit.weight, edit.record.model_copy(update={"name": name}))
        return replace(self, edits=edits)


def attempt(
    source: Source,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    given: Read | None = None,
) -> Attempt:
    """Run a recipe on a checkpoint in memory; ``dtype`` is the output's (None: each its own).

    ``given`` reads weights that were edited before: then they are measured in place of solving.

    What is computed does not depend on the number of threads.

    Raises RecipeError for prompts that do not fit, CheckpointError for features that are not
    finite, LimitError for an edited weight that is not.
    """
    aligned = align(recipe)
    read = lru_cache(maxsize=len(LAYER_PARAMETERS))(source.read)  # what is wanted twice in a row
    model = Model(read=read, dtype=dtype, edited=given, rows=source.rows)
    total = len(edited_names(recipe.layers.text_encoder, recipe.layers.unet))
    edits: dict[str, Edit] = {}

    def edited(name: str) -> torch.Tensor:
        return edits[name].weight if name in edits else model.stored(name)

    with one_thread(), torch.inference_mode():
        progress("erase", 0, total)
        for edit in METHODS[recipe.method](model, aligned, recipe):
            edits[edit.name] = edit
            progress("erase", len(edits), total)
        progress("probe", 0, 1)
        measured = probe(recipe, read, edited, (source.rows, model.stored_rows))
        progress("probe", 1, 1)
    return Attempt(recipe, aligned, edits, measured)
