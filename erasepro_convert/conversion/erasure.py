"""An erasure in memory, with its measures: conversion writes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch

from erasepro_convert.clip.text_encoder import LAYER_PARAMETERS, ReadTensor
from erasepro_convert.erase.columns import AlignedPrompts, align
from erasepro_convert.erase.matrix_edit import Edit, Model, change
from erasepro_convert.erase.methods import measure_recipe, retains_language, solve_recipe
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.errors import RecipeError
from erasepro_convert.language.moments import Language, read_language
from erasepro_convert.manifest import Change, ProbeRecord, Trained
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.library_logging import silence_libraries
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.threads import one_thread
from erasepro_convert.sd1.keys import TEXT, UNET
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.sd1.sd1_weights import SD1Weights
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.storage.cache import state_digest
from erasepro_convert.train.result import Fitted


@dataclass(frozen=True)
class Erasure:
    """Edits by tensor name, the prompts that they were solved for, and the measures of both."""

    recipe: Recipe
    aligned: AlignedPrompts
    edits: dict[str, Edit]
    probe: ProbeRecord
    trained: Trained | None = None
    other_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Trained tensors by name that read no text features; they have no residual."""

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The edited weights by tensor name."""
        return {name: edit.weight for name, edit in self.edits.items()} | self.other_weights

    @property
    def changes(self) -> tuple[Change, ...]:
        """The record of each edited tensor."""
        records = (edit.record for edit in self.edits.values())
        return (*records, *(self.trained.changes if self.trained else ()))

    def as_ema_copy(self) -> "Erasure":
        """Return this erasure as one of an EMA copy: its U-Net edits, under the copy's names."""
        edits = {}
        for edit in self.edits.values():
            if edit.name.startswith(UNET):
                name = ema_name(edit.name)
                edits[name] = Edit(name, edit.weight, edit.record.model_copy(update={"name": name}))
        return replace(self, edits=edits)


def run_erasure(
    source: SD1Weights,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    *,
    state: Path | None = None,
    already_erased: frozenset[str] = frozenset(),
    anew: bool = False,
) -> Erasure:
    """Run a recipe on a checkpoint in memory; ``dtype`` is the output's (None: each its own).

    Targets in ``already_erased`` were erased from the checkpoint before: they are kept, and
    measured.  ``state`` is the file where a training keeps what it needs to go on.  ``anew`` takes
    no result of an earlier run from the cache.

    What is solved does not depend on the number of threads.

    Raises RecipeError for prompts that do not fit and for a training of what is not in a file,
    CheckpointError for features that are not finite, LimitError for an edited weight that is not
    finite, UsageError for a file at ``state`` that a training did not write.
    """
    task = _Task.prepare(source, recipe, dtype, progress, already_erased)
    if recipe.training:
        if not isinstance(source, SD1Checkpoint):
            raise RecipeError(
                f"{recipe.method} is trained, for which a whole checkpoint makes pictures: "
                "convert the checkpoint's file"
            )
        return task.with_training(_train(source, recipe, dtype, progress, state))
    edits = solve_recipe(task.model, task.prompts, recipe, task.language(), anew=anew)
    return task.with_edits(edits, anew=anew)


def measure_erasure(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    edited: ReadTensor,
    *,
    already_erased: frozenset[str] = frozenset(),
    single_encoder: bool = False,
) -> Erasure:
    """Measure weights that a recipe gave before, which ``edited`` reads by original name.

    ``single_encoder`` asks for the updates that each text encoder alone would need.

    Raises what ``run_erasure`` does.
    """
    task = _Task.prepare(source, recipe, dtype, progress, already_erased)
    if recipe.training:
        weights = {name: edited(name) for name in task.names}
        return task.with_training(Fitted(weights, (), ""), single_encoder=single_encoder)
    return task.with_edits(
        measure_recipe(
            task.model,
            task.prompts,
            recipe,
            task.language(),
            edited,
            single_encoder=single_encoder,
        )
    )


def _train(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    state: Path | None,
) -> Fitted:
    silence_libraries()  # only a training imports them
    from erasepro_convert.train.loop import train

    return train(source, recipe, dtype, progress, state)


@dataclass(frozen=True)
class _Task:
    """A recipe on a checkpoint: what all ways to its edited weights have in common."""

    source: SD1Weights
    recipe: Recipe
    progress: Progress
    already_erased: frozenset[str]
    prompts: AlignedPrompts
    model: Model
    names: tuple[str, ...]
    """Tensors that the recipe edits."""

    @classmethod
    def prepare(
        cls,
        source: SD1Weights,
        recipe: Recipe,
        dtype: torch.dtype | None,
        progress: Progress,
        already_erased: frozenset[str],
    ) -> "_Task":
        """Align the prompts and wrap the weights.

        Raises RecipeError for prompts that do not fit.
        """
        read = lru_cache(maxsize=len(LAYER_PARAMETERS))(source.read)  # many are read twice in a row
        model = Model(read=read, dtype=dtype, rows=source.rows)
        names = edited_tensors(recipe, source.layout.widths)
        return cls(
            source, recipe, progress, already_erased, align(recipe, already_erased), model, names
        )

    def language(self) -> Language | None:
        """Return what common language looks like to the text encoder, if the recipe retains it."""
        if not retains_language(self.recipe):
            return None

        def report(done: int, total: int) -> None:
            self.progress("language", done, total)

        source = self.source
        encoder = self.model.encoder_digest
        return read_language(source.read, source.rows, self.recipe.clip_skip, report, encoder)

    def with_edits(self, stream: Iterator[Edit], *, anew: bool = True) -> Erasure:
        """Compute the edits of a stream, and measure them: ``anew``, or with what the cache has."""
        edits = self._compute(stream)
        return Erasure(self.recipe, self.prompts, edits, self._probe(edits, anew=anew))

    def with_training(self, fitted: Fitted, *, single_encoder: bool = False) -> Erasure:
        """Measure trained weights: matrices that read text features like solved ones."""

        def trained(name: str) -> torch.Tensor:
            weights = fitted.weights
            return weights[name] if name in weights else self.model.stored(name)

        model, prompts, recipe = self.model, self.prompts, self.recipe
        edits = self._compute(
            measure_recipe(model, prompts, recipe, None, trained, single_encoder=single_encoder)
        )
        measured = self._probe(edits)
        other_weights = {
            name: weight for name, weight in fitted.weights.items() if name not in edits
        }
        with torch.inference_mode():
            changes = tuple(
                change(name, model.read(name), weight) for name, weight in other_weights.items()
            )
        record = Trained(device=fitted.device, losses=fitted.losses, changes=changes)
        return Erasure(recipe, prompts, edits, measured, record, other_weights)

    def _compute(self, stream: Iterator[Edit]) -> dict[str, Edit]:
        """Compute the edits of tensors that the recipe edits; a stream can hold others."""
        edits: dict[str, Edit] = {}
        with one_thread(), torch.inference_mode():
            self.progress("erase", 0, len(self.names))
            for edit in stream:
                if edit.name in self.names:
                    edits[edit.name] = edit
                    self.progress("erase", len(edits), len(self.names))
        return edits

    def _probe(self, edits: Mapping[str, Edit], *, anew: bool = True) -> ProbeRecord:
        """Measure the held-out prompts on the weights as they will be stored."""
        model, rows = self.model, (self.source.rows, self.model.stored_rows)

        def edited(name: str) -> torch.Tensor:
            return edits[name].weight if name in edits else model.stored(name)

        self.progress("probe", 0, 1)
        measured = measure_leak_and_drift(
            self.recipe,
            model.read,
            edited,
            rows,
            self.already_erased,
            encoders=None if anew else (model.encoder_digest, self._edited_digest(edits)),
        )
        self.progress("probe", 1, 1)
        return measured

    def _edited_digest(self, edits: Mapping[str, Edit]) -> str:
        """The digest of the edited text encoder: of the original's, and of the edits."""
        changed = [(n, edit.weight) for n, edit in edits.items() if n.startswith(TEXT)]
        if not changed and self.model.dtype is None:
            return self.model.encoder_digest
        stored_as = str(self.model.dtype)
        return json_digest([self.model.encoder_digest, stored_as, state_digest(changed)])
