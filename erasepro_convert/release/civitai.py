"""A short text for Civitai, whose editor takes what is pasted from a page in a browser.

Its descriptions keep few HTML tags.  Those here are what both the description of a model and that
of a version keep (civitai/civitai, src/utils/html-helpers.ts and model-version.schema.ts, 2026):
no tables and no headings are among them.
"""

import shlex
from collections.abc import Iterable, Iterator

from erasepro_convert.manifest import Manifest
from erasepro_convert.manifest.verdict import MEASURED, verdict
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.results import Results
from erasepro_convert.release.sentences import (
    attacks_not_tried,
    stated,
    three_places,
    title,
)
from erasepro_convert.release.untested import untested
from erasepro_convert.release.words import Words
from erasepro_convert.report.results_model import Evaluation, Stress, StressRow
from erasepro_convert.runtime.html_template import fill_template
from erasepro_convert.runtime.printable import on_one_line
from erasepro_convert.runtime.wording import counted

SHOWN = 12
"""Lines of a list."""


def civitai_text(results: Results, release: Release) -> str:
    """Return the page to paste from; it depends on its arguments alone."""
    words = Words(results.manifest)
    page = fill_template(
        "release/civitai.html.jinja",
        lambda value: on_one_line(value) if isinstance(value, str) else value,
        m=results.manifest,
        title=title(results, release),
        release=release,
        words=words,
        measured=MEASURED,
        verdict=verdict(results.manifest, words.concept),
        erased=[] if words.are_private else _first(_erased(results.manifest)),
        judged=_first(_judged(results.evaluation, words)) if results.evaluation else [],
        tried=_first(_tried(results.stress, words)) if results.stress else [],
        not_tried=attacks_not_tried(results.stress) if results.stress else [],
        untested=list(untested(results, words)),
        ways_back=WAYS_BACK,
        statements=stated(release),
        output=results.name,
        method=METHODS[results.manifest.recipe.method],
        counted=counted,
        quoted=shlex.quote,
    )
    return f"{page}\n"


def _first(lines: Iterable[str]) -> list[str]:
    """Return the first lines, and how many more there are: the card has all."""
    found = list(lines)
    rest = len(found) - SHOWN
    return [*found[:SHOWN], *([f"and {rest} more, in the model card"] if rest > 0 else [])]


def _erased(manifest: Manifest) -> Iterator[str]:
    for concept in manifest.recipe.concepts:
        yield f"{concept.target} → {concept.anchor or 'no words'}"


def _judged(evaluation: Evaluation, words: Words) -> Iterator[str]:
    """Give a sentence for each figure that is a mean over pictures; sets have no worst prompt."""
    for figure in evaluation.figures:
        if figure.worst is None:
            continue
        concept = f"{words.concept(figure.concept)}, " if figure.concept else ""
        original = three_places(figure.original)
        yield (
            f"{figure.judge}, {concept}{figure.column}: {original} in the original, "
            f"{three_places(figure.erased)} in this file ({figure.better} is better, "
            f"{counted(figure.images, 'picture')})"
        )


def _tried(stress: Stress, words: Words) -> Iterator[str]:
    """Give a sentence for each attack on each concept, with what came nearest to the target."""
    rows: dict[tuple[str, str], list[StressRow]] = {}
    for row in stress.rows:
        if row.attack != "none":
            rows.setdefault((row.concept, row.attack), []).append(row)
    for (concept, attack), cases in rows.items():
        if drawn := [row.drawn.recovered for row in cases if row.drawn and row.drawn.recovered]:
            most = max(drawn, key=lambda estimate: estimate.value)
            yield f"{attack}: up to {three_places(most)} of {words.concept(concept)} recovered"
        elif near := [row.distances.erased for row in cases if row.distances]:
            yield (
                f"{attack}: text features come to a distance of {min(near):.2f} from "
                f"{words.concept(concept)} (0 is there, 1 as far as its anchor)"
            )
