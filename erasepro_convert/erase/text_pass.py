"""The pass through the text encoder: edits of its layers, and what it feeds to the U-Net.

What comes of it depends on the text encoder, the recipe and the retained language, and on nothing
else of the U-Net.  It is kept in the user's cache folder: the next file with the same text encoder
takes it from there, bit by bit the same.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from erasepro_convert.clip.digests import features_digest
from erasepro_convert.clip.text_encoder import Features, Prefixes
from erasepro_convert.erase.closed_form import unchanged
from erasepro_convert.erase.matrix_edit import Edit, EditedWeight, FactoredColumns, Model
from erasepro_convert.erase.read_features import Group, Inputs, Problem, Read, feature_distances
from erasepro_convert.erase.scope import Scope
from erasepro_convert.manifest import EditRecord, Encoder
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.software_versions import software_versions
from erasepro_convert.runtime.threads import parallel_map, running_in_background
from erasepro_convert.sd1 import text_attention
from erasepro_convert.sd1.keys import TEXT_LAYERS
from erasepro_convert.storage.cache import find_tensors, keep_tensors

ORIGINAL_ONLY: tuple[Group, ...] = ("anchor", "calibration_anchor", "left_out")
"""Prompts of which the original features alone are asked for."""

Ids = tuple[Tensor, tuple[int, ...]]
"""Token ids of prompts (P × T), and the lengths to which they are read."""

Fed = dict[tuple[Encoder, int], Tensor]
"""What a text encoder feeds to the U-Net (N × d, for N prefixes), by encoder and clip skip."""

RECORDS = "records"
"""The tensor that holds the records of edits as JSON, where a pass is kept."""


@dataclass(frozen=True)
class Passing:
    """Prompts that pass through a text encoder together.

    ``prefixes`` are their distinct prefixes, ``places`` has for each group the number of the prefix
    that ends at each position of its prompts.
    """

    prefixes: Prefixes
    places: Mapping[Group, Tensor]

    @classmethod
    def of(cls, groups: Mapping[Group, Ids]) -> "Passing":
        """Find the distinct prefixes of all groups."""
        counts = [len(ids) for ids, _ in groups.values()]
        width = max(ids.shape[1] for ids, _ in groups.values())
        ids = torch.cat([pad(ids, (0, width - ids.shape[1])) for ids, _ in groups.values()])
        lengths = [n for _, lengths in groups.values() for n in lengths]
        prefixes = Prefixes.from_token_ids(ids, lengths)
        return cls(prefixes, dict(zip(groups, prefixes.prefix_at.split(counts), strict=True)))


@dataclass(frozen=True)
class Passes:
    """What passes through the original text encoder, and what through the edited one.

    Where nothing is updated on the way and nothing is cast (``is_one``), one pass gives both.
    """

    stock: Passing
    edited: Passing
    is_one: bool

    @classmethod
    def of(cls, problem: Problem, *, is_one: bool) -> "Passes":
        """Share out the prompts of a problem."""
        groups = _groups(problem)
        everything = Passing.of(groups)
        if is_one:
            return cls(everything, everything, is_one)
        edited = {group: ids for group, ids in groups.items() if group not in ORIGINAL_ONLY}
        return cls(everything, Passing.of(edited), is_one)

    def feeds(self, fed: Fed) -> dict[Encoder, list[Inputs]]:
        """What the U-Net reads: of each text encoder, with each clip skip."""
        feeds: dict[Encoder, list[Inputs]] = {"edited": [], "stock": []}
        for skip in sorted({skip for _, skip in fed}, reverse=True):  # as layers come
            source = Inputs(
                f"skip.{skip}",
                partial(_features, fed["edited", skip], self.edited),
                partial(_features, fed["stock", skip], self.stock),
            )
            feeds["edited"].append(source)
            feeds["stock"].append(source.without_edits)
        return feeds


def text_edits(
    model: Model,
    problem: Problem,
    scope: Scope,
    passes: Passes,
    edited_weight: EditedWeight,
    kept_as: str | None = None,
) -> Generator[Edit, None, Fed]:
    """Edit the text encoder layer after layer; return what it feeds to the U-Net.

    The anchor's features pass through the original weights, the target's through those that will be
    stored.  ``kept_as`` is the name of what comes of it in the cache.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not.
    """
    if kept_as and (found := find_tensors(kept_as)):
        made, fed = _unpacked(found)
        yield from made
        return fed
    precision = problem.form.precision
    original, current = model.encoder(precision), model.stored_encoder(precision)
    stock = original.embed(passes.stock.prefixes)
    edited = stock if passes.is_one else current.embed(passes.edited.prefixes)
    made, fed = [], {}
    for number in range(1, TEXT_LAYERS + 1):
        layer = original.layer(number)
        updated = current.layer(number) if model.dtype else layer
        with running_in_background(partial(layer, stock, passes.stock.prefixes)) as passing:
            if number in scope.text_layers:
                source = Inputs(
                    number,
                    partial(_features, edited, passes.edited, norm=updated.attention_input),
                    partial(_features, stock, passes.stock, norm=layer.attention_input),
                )
                edits = _edit_layer(model, number, problem, source, edited_weight)
                made += edits
                yield from edits
                if scope.through_updated:
                    weights = (edit.weight.to(precision) for edit in edits)
                    updated = updated.with_attention(dict(zip("qkv", weights, strict=True)))
            stock = passing.result()
        edited = stock if passes.is_one else updated(edited, passes.edited.prefixes)
        if (skip := TEXT_LAYERS + 1 - number) in scope.clip_skips:
            fed["stock", skip] = original.fed(stock, passes.stock.prefixes)
            fed["edited", skip] = fed["stock", skip]
            if not passes.is_one:
                fed["edited", skip] = current.fed(edited, passes.edited.prefixes)
    if kept_as:
        keep_tensors(kept_as, _packed(made, fed))
    return fed


def kept_name(model: Model, problem: Problem, recipe: Recipe) -> str:
    """Return the name of what ``text_edits`` gives: a digest of all that it depends on."""
    tokens = torch.cat([ids.flatten() for ids, _ in _groups(problem).values()]).unique()
    embeddings = model.encoder(problem.form.precision).embeddings(tokens)
    described = (
        software_versions(),
        recipe.model_dump(mode="json"),
        problem.prompts.record.held,
        problem.language.left_out.ids.tolist() if problem.language else None,
        str(model.dtype),
    )
    return f"text-{features_digest(model.encoder_digest, embeddings, described)}"


def _groups(problem: Problem) -> dict[Group, Ids]:
    """The prompts that pass through the text encoder."""
    prompts = problem.prompts
    groups: dict[Group, Ids] = {
        "anchor": (prompts.solved.anchor_ids, prompts.solved.anchor_lengths),
        "target": (prompts.solved.target_ids, prompts.solved.target_lengths),
        "retained": (prompts.retained.ids, prompts.retained.lengths),
    }
    if problem.language:
        groups["left_out"] = problem.language.left_out.ids, problem.language.left_out.lengths
    if problem.form.calibrates:
        pairs, others = prompts.calibration, prompts.calibration_others
        groups["calibration_anchor"] = pairs.anchor_ids, pairs.anchor_lengths
        groups["calibration_target"] = pairs.target_ids, pairs.target_lengths
        groups["calibration_other"] = others.ids, others.lengths
    if problem.form.reads_empty_prompt:
        groups["empty"] = prompts.empty.ids, prompts.empty.lengths
    return groups


def _features(
    hidden: Tensor,
    passing: Passing,
    group: Group,
    norm: Callable[[Tensor], Tensor] = unchanged,
) -> Features:
    """The features of a group of prompts: ``norm`` of hidden states."""
    return Features(hidden, passing.places[group], norm)


def _edit_layer(
    model: Model,
    number: int,
    problem: Problem,
    source: Inputs,
    edited_weight: EditedWeight,
) -> list[Edit]:
    """Edit queries, keys and values of a text-encoder layer."""
    label = f"text_encoder.{number}"
    index = problem.prompts.solved.index(number)
    columns = FactoredColumns(Read.of(label, problem, index, [source]))
    distances = feature_distances(index, {"edited": [source], "stock": [source.without_edits]})

    def edit(name: str) -> Edit:
        matrix = columns.problem(model.read(name))
        return matrix.edit(name, label, edited_weight(name, matrix), distances)

    return parallel_map(edit, list(text_attention(number).values()))


def _packed(edits: list[Edit], fed: Fed) -> dict[str, Tensor]:
    """Edits and features as tensors by name; a feed of both encoders is there once."""
    records = json.dumps([edit.record.model_dump(mode="json") for edit in edits]).encode()
    return {
        RECORDS: torch.frombuffer(bytearray(records), dtype=torch.uint8),
        **{f"weight {edit.name}": edit.weight for edit in edits},
        **{
            f"fed {encoder} {skip}": features
            for (encoder, skip), features in fed.items()
            if encoder == "stock" or features is not fed["stock", skip]
        },
    }


def _unpacked(tensors: Mapping[str, Tensor]) -> tuple[list[Edit], Fed]:
    """What ``_packed`` was given."""
    records = json.loads(tensors[RECORDS].numpy().tobytes())
    edits = [
        Edit(record["name"], tensors[f"weight {record['name']}"], EditRecord(**record))
        for record in records
    ]
    fed: Fed = {}
    for name in tensors:
        if name.startswith("fed stock "):
            skip = int(name.rpartition(" ")[2])
            fed["stock", skip] = tensors[name]
            fed["edited", skip] = tensors.get(f"fed edited {skip}", tensors[name])
    return edits, fed
