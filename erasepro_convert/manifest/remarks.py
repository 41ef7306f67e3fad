"""Remarks on a conversion, for those who want to know all that its manifest says in words."""

from collections.abc import Iterator

from erasepro_convert.manifest.erasure import Trained
from erasepro_convert.manifest.model import Manifest
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.runtime.wording import counted, counted_of

HARMFUL = 1000
"""The condition number of X from which an exact solve visibly harms: see docs/method.md."""


def largest_condition(manifest: Manifest) -> float:
    """Return the largest condition number of X; 0 where nothing was solved."""
    return max((edit.condition for edit in manifest.edits), default=0.0)


def is_harmful(manifest: Manifest) -> bool:
    """Whether the recipe asks for no residual (Eq. 5) of columns that are nearly collinear."""
    recipe = manifest.recipe
    is_exact = "tolerance" in METHODS[recipe.method].keys and recipe.tolerance == 0
    return is_exact and largest_condition(manifest) > HARMFUL


def remarks(manifest: Manifest) -> Iterator[str]:
    """Give lines on what was edited, left out, dropped, repaired and renamed."""
    alignment = manifest.alignment
    edits = manifest.edits
    columns, pair_count = alignment.deeper_layers, len(alignment.prompts)
    changed = sum(edit.changed for edit in edits)
    if manifest.trained:
        yield from _trained_remarks(manifest, manifest.trained)
    elif pair_count:
        yield (
            f"{counted_of(changed, len(edits), 'matrix', 'matrices')} edited; "
            f"{counted(columns.columns, 'column')} from "
            f"{counted(pair_count, 'prompt pair')}, {counted(columns.merged, 'duplicate')} merged; "
            f"condition number up to {largest_condition(manifest):.1e}"
        )
    else:
        yield "every target had been erased from the input before: no matrix was edited"
    yield from _target_remarks(manifest)
    if is_harmful(manifest):
        yield (
            "warning: the exact solve (tolerance 0) of nearly collinear columns harms the model; "
            "leave tolerance and retain.weight at their defaults to avoid that"
        )
    for conflict in columns.conflicts:
        anchors = ", ".join(f"{place.token!r} in {place.prompt!r}" for place in conflict.anchors)
        yield (
            f"conflict: {conflict.token!r} in {conflict.target_prompt!r} is sent to {anchors} "
            "at once, which leaves a residual"
        )
    shallow_conflicts = len(alignment.first_layer.conflicts)
    if alignment.first_layer.conflicts not in ((), columns.conflicts):
        yield (
            f"text_encoder.1 reads tokens before any attention: {shallow_conflicts} of its columns "
            f"{'conflicts' if shallow_conflicts == 1 else 'conflict'} (listed in the manifest)"
        )
    reasons = [entry.reason for entry in manifest.tensors.dropped]
    for reason in dict.fromkeys(reasons):
        yield f"dropped {reasons.count(reason)}: {reason}"
    for repaired in manifest.tensors.repaired:
        yield f"repaired {repaired.name}: {repaired.defect}"
    if manifest.variant.clip_skip_from == "metadata":
        skips = " and ".join(map(str, manifest.recipe.clip_skip))
        yield f"its metadata adds to the recipe's clip skip: the result holds for {skips}"
    if manifest.tensors.renamed:
        count = counted(len(manifest.tensors.renamed), "tensor")
        yield f"renamed {count} to the current spelling"


def _trained_remarks(manifest: Manifest, trained: Trained) -> Iterator[str]:
    """Give lines on what a training changed."""
    losses = trained.losses
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    yield (
        f"{counted_of(manifest.tensors.edited, len(manifest.all_edits), 'tensor')} "
        f"trained in {counted(len(losses), 'step')} on "
        f"{trained.device}; loss {first:.4f} in the first tenth, "
        f"{last:.4f} in the last"
    )
    yield "whether a training erased its targets only pictures tell: erasepro-convert evaluate"


def _target_remarks(manifest: Manifest) -> Iterator[str]:
    """Give lines on targets that were added, that were erased before, and that prompts contain."""
    for target, words in manifest.synonyms.items():
        shares = ", ".join(f"{found.word} {found.distance:.2f}" for found in words)
        yield f"means the same as {target!r} to this checkpoint: {shares or 'no other word'}"
    alignment = manifest.alignment
    if alignment.held:
        yield (
            f"erased before, kept and not solved again: {', '.join(alignment.held)} (leak counted "
            "in how far other words are from the anchor)"
        )
    if left_out := alignment.left_out:
        prompts = counted(len(left_out), "retained prompt")
        yield f"{prompts} with a target's words left out: {', '.join(map(repr, left_out))}"
