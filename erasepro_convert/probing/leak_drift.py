"""How far an erasure got, measured without images: leak of targets, drift of others, and reach.

The U-Net reads a prompt through its cross-attention's keys and values alone.  With KV_o a matrix of
the original checkpoint applied to its own text features and KV_e the same of the edited one,

    leak  = ‖KV_e(target) − KV_o(anchor)‖ / ‖KV_o(target) − KV_o(anchor)‖
    drift = ‖KV_e(other) − KV_o(other)‖ / spread,  spread² = mean ‖KV_o(other) − mean KV_o(other)‖²

over positions 1 … EOS of a prompt, as the mean over all 32 matrices.  Leak is 1 where nothing was
done and 0 where the target has become the anchor.  The spread is over all other prompts: what all
prompts have in common makes no drift look small.  Keys are compared up to a constant, the mean by
which those of other prompts moved, since softmax does not see it.  BOS is left out since it is the
same in every prompt, and padding because it would outweigh the words.  All prompts are held out
from the solve.

Where the target was erased from the original before, KV_o(target) is near KV_o(anchor) already, and
a share of that small distance says nothing.  Leak of such a target is therefore a share of how far
reference words in the target's place are from the anchor: the root mean square over positions and
``recipe.default_prompts.REFERENCE_WORDS``.

What leak says of the target's words, reach says of any input: see ``key_value_distance``.  It is
measured for targets that were not erased before, whose distance to the anchor it is a share of.
"""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from erasepro_convert.clip.fed_features import fed_features
from erasepro_convert.clip.text_encoder import Prefixes, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.erase.pairing import HeldOutPair, held_out_pairs
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import Feed, ProbeRecord, PromptMeasure
from erasepro_convert.probing.feature_pairs import (
    MeasuredPairs,
    ReferencePairs,
    find_prefixes,
    pair_with_anchors,
    pair_with_themselves,
)
from erasepro_convert.probing.key_value_distance import MatrixDistance, MeanDistance
from erasepro_convert.probing.measures import Measures, mean_over_matrices, measure_matrix
from erasepro_convert.probing.reach import (
    concept_goals,
    distances_at_matrix,
    reach_of_concepts,
)
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.recipe.default_prompts import REFERENCE_WORDS
from erasepro_convert.runtime.threads import one_thread, parallel_results
from erasepro_convert.sd1 import cross_attentions, key_value_matrices

DTYPE = torch.float32
"""It is precise enough for ratios that are read to two digits, and twice as fast as float64."""


@one_thread()
@torch.inference_mode()
def measure_leak_and_drift(
    recipe: Recipe,
    original: ReadTensor,
    edited: ReadTensor,
    rows: tuple[ReadRows, ReadRows] | None = None,
    already_erased: Collection[str] = (),
    encoders: tuple[str, str] | None = None,
) -> ProbeRecord:
    """Measure the checkpoint that ``edited`` reads against the one that ``original`` reads.

    ``rows`` reads rows of their token embeddings, which then need not be read as a whole.
    ``already_erased`` are targets that were erased from the original before: see the top of this
    module.  ``encoders`` are digests of both text encoders: with them their features of these
    prompts come from the user's cache folder, or are kept there.

    Raises RecipeError for a concept that CLIP does not read, CheckpointError for features that are
    not finite.
    """
    prompt_pairs = [p for concept in recipe.concepts for p in held_out_pairs(concept, recipe)]
    prefixes, pairs = _pair_features(recipe, prompt_pairs, already_erased)
    original_rows, edited_rows = rows or (None, None)
    stock, edited_features = (
        fed_features(TextEncoder(read, DTYPE, rows_of), prefixes, recipe.clip_skip, known)
        for read, rows_of, known in zip(
            (original, edited), (original_rows, edited_rows), encoders or (None, None), strict=True
        )
    )
    feeds = {
        **{
            Feed(text_encoder="edited", clip_skip=skip): fed
            for skip, fed in edited_features.items()
        },
        **{Feed(text_encoder="stock", clip_skip=skip): fed for skip, fed in stock.items()},
    }
    for fed in feeds.values():
        if not torch.isfinite(torch.stack(torch.aminmax(fed))).all():
            raise CheckpointError("text features are not finite: the text encoder is damaged")

    keys = {attention.to_k for attention in cross_attentions()}
    concepts = _rows_by_concept(prompt_pairs)
    whole = {concept: rows for concept, rows in concepts.items() if concept not in already_erased}
    goals = concept_goals(pairs, whole, stock, edited_features)

    def measure(name: str) -> tuple[list[Measures], list[MatrixDistance]]:
        before, after = original(name).to(DTYPE).T, edited(name).to(DTYPE).T
        found: dict[Feed, Measures] = {}
        for skip, unedited in stock.items():
            of_skip = {feed: fed for feed, fed in feeds.items() if feed.clip_skip == skip}
            found |= measure_matrix(
                before, after, unedited, of_skip, pairs, up_to_constant=name in keys
            )
        parts = distances_at_matrix(goals, before.T, after.T, is_key=name in keys)
        return [found[feed] for feed in feeds], parts

    by_matrix = []
    distances = [MeanDistance(goal.common) for goal in goals]
    for measured, parts in parallel_results(measure, key_value_matrices()):
        by_matrix.append(measured)
        for distance, part in zip(distances, parts, strict=True):
            distance.add(part)
    by_feed = zip(*by_matrix, strict=True)
    means = {feed: mean_over_matrices(m) for feed, m in zip(feeds, by_feed, strict=True)}
    return ProbeRecord(
        leak=tuple(
            _leak_of_concept(feed, concept, rows, pairs.targets.prompts, measures)
            for feed, measures in means.items()
            for concept, rows in concepts.items()
        ),
        drift=tuple(
            _record(feed, None, pairs.others.prompts, measures.drift, before=0.0)
            for feed, measures in means.items()
        ),
        reach=reach_of_concepts(goals, distances),
    )


def _pair_features(
    recipe: Recipe, prompt_pairs: Sequence[HeldOutPair], already_erased: Collection[str]
) -> tuple[Prefixes, MeasuredPairs]:
    """Tokenise all prompts that are measured, and pair the features at their positions."""
    others = recipe.without_targets(recipe.probe.others)
    reference_pairs = list(_reference_pairs(recipe, already_erased))
    measured = [*prompt_pairs, *(pair for _, pair in reference_pairs)]
    prompts = (*(p.target for p in measured), *(p.anchor for p in measured), *others)
    tokens = {prompt: tokenize(prompt) for prompt in dict.fromkeys(prompts)}
    prefixes, prefix_at = find_prefixes(tokens)
    reference = None
    if reference_pairs:
        target_prompt_of = torch.tensor([number for number, _ in reference_pairs])
        reference = ReferencePairs(
            pair_with_anchors(prefix_at, [pair for _, pair in reference_pairs]), target_prompt_of
        )
    return prefixes, MeasuredPairs(
        targets=pair_with_anchors(prefix_at, prompt_pairs),
        others=pair_with_themselves(prefix_at, [(p, tokens[p].count) for p in others]),
        reference=reference,
    )


def _reference_pairs(
    recipe: Recipe, already_erased: Collection[str]
) -> Iterator[tuple[int, HeldOutPair]]:
    """Prompt pairs with reference words in place of the targets that were erased before.

    Each comes with the number, among all prompt pairs of the recipe, of the pair that it is made
    from.
    """
    count = len(recipe.probe.prompts)
    for i, concept in enumerate(recipe.concepts):
        if concept.target not in already_erased:
            continue
        for target in _reference_targets(concept):
            changed = concept.model_copy(update={"target": target})
            numbers = range(i * count, (i + 1) * count)
            yield from zip(numbers, held_out_pairs(changed, recipe), strict=True)


def _reference_targets(concept: Concept) -> Iterator[str]:
    """The target with its words replaced by reference words, in turn by each of them.

    Words that target and anchor share stay: for "nude woman" there is "dog woman".
    """
    words, anchor = concept.target.split(), concept.anchor.casefold().split()
    own = [i for i, word in enumerate(words) if word.casefold() not in anchor] or range(len(words))
    free = [word for word in REFERENCE_WORDS if word not in {*map(str.casefold, words), *anchor}]
    for start in range(len(free)):
        changed = {i: free[(start + n) % len(free)] for n, i in enumerate(own)}
        yield " ".join(changed.get(i, word) for i, word in enumerate(words))


def _rows_by_concept(pairs: Sequence[HeldOutPair]) -> dict[str, Tensor]:
    """The numbers of each concept's prompt pairs."""
    names = [pair.concept for pair in pairs]
    return {
        concept: torch.tensor([i for i, name in enumerate(names) if name == concept])
        for concept in dict.fromkeys(names)
    }


def _leak_of_concept(
    feed: Feed, concept: str, rows: Tensor, prompts: tuple[str, ...], measures: Measures
) -> PromptMeasure:
    chosen = tuple(prompts[i] for i in rows.tolist())
    before = float(measures.leak_before[rows].mean())
    record = _record(feed, concept, chosen, measures.leak[rows], before=before)
    distances = {
        "distance_before": float(measures.distance_before[rows].mean()),
        "distance_after": float(measures.distance_after[rows].mean()),
    }
    return record.model_copy(update=distances)


def _record(
    feed: Feed, concept: str | None, prompts: tuple[str, ...], values: Tensor, *, before: float
) -> PromptMeasure:
    worst = int(values.argmax())
    return PromptMeasure(
        feed=feed,
        concept=concept,
        prompts=len(prompts),
        before=before,
        mean=float(values.mean()),
        worst=float(values[worst]),
        worst_prompt=prompts[worst],
        by_prompt=dict(zip(prompts, values.tolist(), strict=True)),
        distance_before=None,
        distance_after=None,
    )
