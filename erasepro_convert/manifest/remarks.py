"""Remarks on a conversion: all that its manifest says in words.

The details and the report have each of them; those that deserve attention are the verdict's too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from erasepro_convert.manifest.erasure import Alignment
from erasepro_convert.manifest.model import Manifest
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.runtime.wording import counted, counted_of
from erasepro_convert.sd1.dropped_tensors import CONCEPT_CARRIERS, EMA_COPY

HARMFUL = 1000
"""The condition number of X from which an exact solve visibly harms: see docs/method.md."""
CARRIERS = {EMA_COPY, *(what for _, what in CONCEPT_CARRIERS)}
"""Reasons for which a tensor is dropped that could bring a target back."""


@dataclass(frozen=True)
class Remark:
    """A sentence, and how it goes on where there is room; as text it is both.

    ``is_warning`` says that it deserves attention.
    """

    what: str
    more: str = ""
    is_warning: bool = False

    def __str__(self) -> str:
        return self.what + self.more


def _warning(what: str, more: str = "") -> Remark:
    return Remark(what, more, is_warning=True)


def remarks(
    manifest: Manifest, listed: Callable[[Sequence[str]], str] = ", ".join
) -> Iterator[Remark]:
    """Give what is to be said of a conversion, of warnings the most important first.

    ``listed`` makes one text of targets; no other word of the recipe is in the ``what`` of a
    warning.
    """
    yield from _edit_remarks(manifest)
    yield from _conflict_remarks(manifest.alignment)
    yield from _target_remarks(manifest, listed)
    reasons = [entry.reason for entry in manifest.tensors.dropped]
    for reason in dict.fromkeys(reasons):
        if reason in CARRIERS:
            yield _warning(
                f"left out, since it could bring targets back: {reason.partition(':')[0]}",
                f" ({counted(reasons.count(reason), 'tensor')})",
            )
        else:
            yield Remark(f"dropped {reasons.count(reason)}: {reason}")
    if manifest.ema:
        yield _warning("the EMA copy of the U-Net was erased too, and is in these figures")
    if manifest.variant.clip_skip_from == "metadata":
        skips = " and ".join(map(str, manifest.recipe.clip_skip))
        yield _warning(f"measured with clip skip {skips}, which the input's metadata ask for")
    for repaired in manifest.tensors.repaired:
        yield _warning(f"repaired {repaired.name}: {repaired.defect}")
    if manifest.tensors.renamed:
        count = counted(len(manifest.tensors.renamed), "tensor")
        yield Remark(f"renamed {count} to the current spelling")


def _edit_remarks(manifest: Manifest) -> Iterator[Remark]:
    """Give remarks on what was solved or trained."""
    edits, recipe = manifest.edits, manifest.recipe
    columns, pair_count = manifest.alignment.deeper_layers, len(manifest.alignment.prompts)
    condition = max((edit.condition for edit in edits), default=0.0)
    if trained := manifest.trained:
        losses = trained.losses
        tenth = max(1, len(losses) // 10)
        first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
        yield Remark(
            f"{counted_of(manifest.tensors.edited, len(manifest.all_edits), 'tensor')} "
            f"trained in {counted(len(losses), 'step')} on "
            f"{trained.device}; loss {first:.4f} in the first tenth, "
            f"{last:.4f} in the last"
        )
        yield _warning("whether a training erased its targets only pictures tell: see evaluate")
    elif pair_count:
        changed = sum(edit.changed for edit in edits)
        yield Remark(
            f"{counted_of(changed, len(edits), 'matrix', 'matrices')} edited; "
            f"{counted(columns.columns, 'column')} from "
            f"{counted(pair_count, 'prompt pair')}, {counted(columns.merged, 'duplicate')} merged; "
            f"condition number up to {condition:.1e}"
        )
    else:
        yield Remark("every target had been erased from the input before: no matrix was edited")
    is_exact = "tolerance" in METHODS[recipe.method].keys and recipe.tolerance == 0
    if is_exact and condition > HARMFUL:
        yield _warning(
            "the exact solve (tolerance 0) of nearly collinear columns harms the model",
            "; leave tolerance and retain.weight at their defaults to avoid that",
        )


def _conflict_remarks(alignment: Alignment) -> Iterator[Remark]:
    """Give remarks on tokens that are sent to several anchors."""
    first, deeper = alignment.first_layer.conflicts, alignment.deeper_layers.conflicts
    if deeper:
        tokens = counted(len(deeper), "token")
        yield _warning(f"{tokens} sent to several anchors at once: a residual is left")
    for conflict in deeper:
        anchors = ", ".join(
            f"{quoted(place.token)} in {quoted(place.prompt)}" for place in conflict.anchors
        )
        yield Remark(
            f"{quoted(conflict.token)} in {quoted(conflict.target_prompt)} is sent to {anchors}"
        )
    if first not in ((), deeper):
        yield Remark(
            f"text_encoder.1 reads tokens before any attention: {len(first)} of its columns "
            f"{'conflicts' if len(first) == 1 else 'conflict'} (listed in the manifest)"
        )


def _target_remarks(manifest: Manifest, listed: Callable[[Sequence[str]], str]) -> Iterator[Remark]:
    """Give remarks on targets that were added, were erased before, and that prompts contain."""
    for target, words in manifest.synonyms.items():
        shares = ", ".join(f"{found.word} {found.distance:.2f}" for found in words)
        same = shares or "no other word"
        yield Remark(f"means the same as {quoted(target)} to this checkpoint: {same}")
    alignment = manifest.alignment
    if alignment.held:
        yield _warning(
            f"erased before, and kept so: {listed(alignment.held)}",
            " (leak counted in how far other words are from the anchor)",
        )
    if left_out := alignment.left_out:
        prompts = counted(len(left_out), "retained prompt")
        yield Remark(f"{prompts} with a target's words left out: {', '.join(map(repr, left_out))}")
