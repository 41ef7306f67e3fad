"""The verdict on a conversion: what its manifest says, for people who did not read the paper.

The command line, the report and whatever else shows a result take it from here, so that none of its
figures is computed in two places.  docs/verdict.md explains each sentence.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from erasepro_convert.manifest.erasure import Change, largest_update
from erasepro_convert.manifest.fields import Encoder
from erasepro_convert.manifest.measures import ProbeRecord, PromptMeasure, exceeds
from erasepro_convert.manifest.model import Manifest
from erasepro_convert.manifest.remarks import remarks
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.printable import shortened
from erasepro_convert.runtime.wording import counted, listed
from erasepro_convert.sd1.keys import TEXT
from erasepro_convert.sd1.statements import UNCLEAR

MEASURED = "Measured on the text of unseen prompts, on average; no picture was looked at:"
"""What all checks of prompts have in common."""
NAME = 16
"""The width in cells of a target in a sentence, so that the sentence fits into a line of 80."""
Naming = Callable[[str], str]
"""What a target is called in sentences: itself, or a number where its words are private."""


@dataclass(frozen=True)
class Check:
    """The worst of one measure, beside its limit.

    ``held`` is None where the recipe sets no limit.  ``text_encoder`` is the one that feeds the
    U-Net: the output's own (edited) or the original's (stock); None where they are the same, or
    where weights are measured.  ``value`` is the largest mean over prompts, and that of the target
    ``concept`` where there is one; ``worst`` is the largest of a single prompt, ``worst_prompt``.
    ``what`` is a sentence with all of it.
    """

    measure: Literal["leak", "drift", "relative update"]
    text_encoder: Encoder | None
    held: bool | None
    what: str
    value: float
    limit: float | None
    worst: float
    worst_prompt: str = ""
    concept: str | None = None

    @property
    def mark(self) -> str:
        """Return a sign for whether it held; a dash where there is no limit."""
        return "–" if self.held is None else "✓" if self.held else "✗"


@dataclass(frozen=True)
class Verdict:
    """What was erased from the checkpoint ``source``, what held, and what deserves attention.

    ``erased`` has each target with its anchor.  ``changes`` says how much is another than before;
    it is empty where the result was refused.  ``autov2`` is the short digest of the output that
    Civitai and UIs show; None where the output has several files of weights, or there is none.
    """

    source: str
    state: Literal["written", "dry run", "refused"]
    erased: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]
    changes: str = ""
    warnings: tuple[str, ...] = ()
    autov2: str | None = None

    @property
    def held(self) -> bool:
        """Whether no limit is exceeded."""
        return all(check.held is not False for check in self.checks)


def verdict(manifest: Manifest, name: Naming = str) -> Verdict:
    """Return the verdict on a conversion.

    ``name`` gives what stands for a target in the sentences, which have no other word of the
    recipe: ``what`` of each check, ``changes`` and ``warnings``.  All else has the recipe's words.
    """
    weights = [file for file in manifest.output.files if file.is_weights]
    return Verdict(
        source=manifest.input.name,
        state="written" if manifest.output.written else "dry run",
        erased=_pairs(manifest.recipe),
        checks=tuple(check_measures(manifest.recipe, manifest.probes, manifest.all_edits, name)),
        changes=_changes(manifest),
        warnings=tuple(_warnings(manifest, name)),
        autov2=weights[0].autov2 if len(weights) == 1 else None,
    )


def refusal(
    source: str, recipe: Recipe, probes: Sequence[ProbeRecord], changes: Sequence[Change]
) -> Verdict:
    """Return the verdict on a result that exceeds limits, of which there is no manifest.

    ``probes`` are those of the model and of a kept EMA copy; ``changes`` those of both.
    """
    checks = tuple(check_measures(recipe, probes, changes))
    return Verdict(source=source, state="refused", erased=_pairs(recipe), checks=checks)


def _pairs(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    return tuple((concept.target, concept.anchor) for concept in recipe.concepts)


def check_measures(
    recipe: Recipe, probes: Sequence[ProbeRecord], changes: Sequence[Change], name: Naming = str
) -> Iterator[Check]:
    """Give the checks of an erasure; the arguments are those of ``refusal`` and ``verdict``."""
    limits = recipe.limits
    text_is_edited = any(change.changed and change.name.startswith(TEXT) for change in changes)
    encoders: tuple[Encoder | None, ...] = ("edited", "stock") if text_is_edited else (None,)
    # Text features do not tell what training made of a target, unless the recipe relies on them.
    if not recipe.training or limits.leak is not None:
        leaks = [measure for probe in probes for measure in probe.leak]
        yield from (_leak(leaks, encoder, limits.leak, name) for encoder in encoders)
    drifts = [measure for probe in probes for measure in probe.drift]
    yield from (_drift(drifts, encoder, limits.drift) for encoder in encoders)
    if limits.relative_update is not None and changes:
        yield _update(changes, limits.relative_update)


def _leak(
    leaks: Sequence[PromptMeasure], encoder: Encoder | None, limit: float | None, name: Naming
) -> Check:
    measured = [m for m in leaks if encoder in (None, m.feed.text_encoder)]
    targets = dict.fromkeys(str(m.concept) for m in measured)
    above = {m.concept for m in measured if exceeds(m.mean, limit)}
    if len(targets) == 1:
        subject = shortened(name(next(iter(targets))), NAME)
        state = "is not erased" if above else "is erased"
    elif above:
        subject, state = f"{len(above)} of {len(targets)} targets", "not erased"
    else:
        subject = "both targets" if len(targets) == 2 else f"all {len(targets)} targets"
        state = "are erased"
    up_to = "up to " if len(targets) > 1 and not above else ""
    if encoder == "stock":
        start = f"stock text encoder: {up_to}"
    else:
        start = f"{subject} {state}: {up_to}" if limit is not None else f"{subject}: {up_to}"
    return _check("leak", encoder, (start, " is left"), measured, limit)


def _drift(drifts: Sequence[PromptMeasure], encoder: Encoder | None, limit: float | None) -> Check:
    measured = [m for m in drifts if encoder in (None, m.feed.text_encoder)]
    if encoder == "stock":
        start = "stock text encoder: others moved by "
    elif limit is None:
        start = "other prompts moved by "
    elif any(exceeds(m.mean, limit) for m in measured):
        start = "other prompts did not stay: they moved by "
    else:
        start = "other prompts stayed: they moved by "
    return _check("drift", encoder, (start, ""), measured, limit)


def _check(
    measure: Literal["leak", "drift"],
    encoder: Encoder | None,
    around: tuple[str, str],
    measured: Sequence[PromptMeasure],
    limit: float | None,
) -> Check:
    """Return the check of the largest mean; ``around`` it are the words of its sentence."""
    largest = max(measured, key=lambda m: m.mean)
    worst = max(measured, key=lambda m: m.worst)
    before, after = around
    value, of_limit = _beside(largest.mean, limit)
    return Check(
        measure=measure,
        text_encoder=encoder,
        held=None if limit is None else not exceeds(largest.mean, limit),
        what=f"{before}{value}{after} ({of_limit}), {_share(worst.worst)} in one prompt",
        value=largest.mean,
        limit=limit,
        worst=worst.worst,
        worst_prompt=worst.worst_prompt,
        concept=largest.concept,
    )


def _update(changes: Sequence[Change], limit: float) -> Check:
    largest = largest_update(changes)
    value, of_limit = _beside(largest, limit)
    return Check(
        measure="relative update",
        text_encoder=None,
        held=not exceeds(largest, limit),
        what=f"the tensor that changed most did so by {value} of its size ({of_limit})",
        value=largest,
        limit=limit,
        worst=largest,
    )


def _beside(value: float, limit: float | None) -> tuple[str, str]:
    """Return a value in percent, with the digits that tell it from its limit, and that limit."""
    if limit is None:
        return _share(value), "no limit"
    digits = 0
    while digits < 4 and exceeds(round(value, 2 + digits), limit) != exceeds(value, limit):
        digits += 1
    return _share(value, digits), f"limit {100 * limit:g}%"


def _share(value: float, digits: int = 0) -> str:
    """Return a value in percent, or as a multiple where it is ten or more."""
    return f"{value:.{digits}%}" if value < 10 else f"{value:.0f}×"


def _changes(manifest: Manifest) -> str:
    """Say how much of the checkpoint is another than before."""
    tensors = manifest.tensors
    rest = f"the same, in {tensors.dtype}" if tensors.dtype else "bit-identical"
    repaired = f", {len(tensors.repaired)} repaired" if tensors.repaired else ""
    total = counted(tensors.written, "tensor")
    if not tensors.edited:
        return f"none of {total} changed{repaired}; all else is {rest}"
    by = f"up to {_share(largest_update(manifest.all_edits))}"
    return f"{tensors.edited} of {total} changed ({by}){repaired}; the rest is {rest}"


def _warnings(manifest: Manifest, name: Naming) -> Iterator[str]:
    """Give what deserves attention, the most important first."""

    def first_two(targets: Sequence[str]) -> str:
        return listed([shortened(name(target), NAME) for target in targets], 2)

    yield from (remark.what for remark in remarks(manifest, first_two) if remark.is_warning)
    yield from (line for line in manifest.variant.evidence if line.endswith(UNCLEAR))
