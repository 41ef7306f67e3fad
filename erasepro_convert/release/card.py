"""The model card, as Hugging Face reads it: metadata in front of Markdown."""

import shlex

from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.manifest.verdict import MEASURED, verdict
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.recipe.release import Release
from erasepro_convert.release import sentences
from erasepro_convert.release.metadata import card_data
from erasepro_convert.release.results import Results
from erasepro_convert.release.untested import untested
from erasepro_convert.release.words import Words
from erasepro_convert.release.worst_measures import largest_means, least_reaches
from erasepro_convert.runtime.markdown import fill_markdown
from erasepro_convert.runtime.wording import counted

ENCODERS = {"edited": "its own", "stock": "the original's"}


def model_card(results: Results, release: Release) -> str:
    """Return the card; it depends on its arguments alone.

    Every word of a recipe, a prompt or a file's name comes out as plain text.
    """
    words = Words(results.manifest)
    metadata = card_data(results, release, words).to_yaml()
    body = fill_markdown(
        "release/card.md.jinja",
        m=results.manifest,
        title=sentences.title(results, release),
        release=release,
        statements=sentences.stated(release),
        words=words,
        measured=MEASURED,
        verdict=verdict(results.manifest, words.concept),
        largest=largest_means(results.manifest),
        reaches=least_reaches(results.manifest),
        encoders=ENCODERS,
        links=[path.name for path in (results.report, results.manifest_file) if path],
        pictures=None if words.are_private else results.pictures,
        evaluation=results.evaluation,
        others=sentences.others_sentence(results.evaluation, words),
        stress=results.stress,
        descriptions=DESCRIPTIONS,
        not_tried=sentences.attacks_not_tried(results.stress),
        untested=list(untested(results, words)),
        ways_back=WAYS_BACK,
        output=results.name,
        method=METHODS[results.manifest.recipe.method],
        attack_name=sentences.attack_name,
        drawn_with=sentences.drawn_with,
        estimate=sentences.three_places,
        counted=counted,
        quoted=shlex.quote,
    )
    return f"---\n{metadata}\n---\n\n{body}"
