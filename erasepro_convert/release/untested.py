"""What was not tested, from what is absent from a release's results."""

from collections.abc import Iterator

from erasepro_convert.release.results import Results
from erasepro_convert.release.words import Words
from erasepro_convert.report.results_model import Evaluation
from erasepro_convert.runtime.wording import listed


def untested(results: Results, words: Words) -> Iterator[str]:
    """Give a sentence on each thing that nobody looked at."""
    recipe = results.manifest.recipe
    yield (
        "Leak, drift and reach are measured on text features. They do not show that no picture has "
        "the target."
    )
    targets = [concept.target for concept in recipe.concepts]
    if results.evaluation:
        yield from _unjudged(results.evaluation, targets, words)
    else:
        yield "No pictures were judged."
    if results.stress:
        attacked = {row.concept for row in results.stress.rows}
        if left := [words.concept(target) for target in targets if target not in attacked]:
            yield f"No attack was tried on {listed(left)}."
        if not results.stress.drawing:
            yield "Attacks were measured on text features. No pictures were drawn under attack."
    else:
        yield "No attack was tried: whether somebody can get the targets back was not tested."
    measured = {m.feed.clip_skip for probe in results.manifest.probes for m in probe.drift}
    for skip in sorted({1, 2} - measured):
        yield f"Clip skip {skip} was not measured."


def _unjudged(evaluation: Evaluation, targets: list[str], words: Words) -> Iterator[str]:
    judged = {figure.concept for figure in evaluation.figures}
    if left := [words.concept(target) for target in targets if target not in judged]:
        yield f"No judge has a figure for {listed(left)}."
    roles = {prompt.role for prompt in evaluation.prompts}
    if "implied" not in roles:
        yield "No pictures were drawn of prompts that mean a target without naming it."
    if "other" not in roles:
        yield "No pictures of other things were drawn."
    for line in evaluation.missing:  # "WHAT: —; what to install or to give"
        yield f"Not judged: {line.partition(': —')[0]}."
