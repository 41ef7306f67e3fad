"""Sentences and figures that the card and the text for Civitai share, beside the verdict's."""

from erasepro_convert.attacks.names import DESCRIPTIONS, Attack
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.results import Results
from erasepro_convert.release.words import Words
from erasepro_convert.report.results_model import Estimate, Evaluation, Settings, Stress, StressRow
from erasepro_convert.runtime.figures import format_estimate
from erasepro_convert.runtime.wording import counted, listed
from erasepro_convert.storage.location import checkpoint_stem

STATEMENTS = {
    "responsible": "Responsible",
    "author": "Author",
    "contact": "Contact",
    "purpose": "Purpose",
    "reference": "Asked for by",
    "review": "Looked at again on",
}
"""The keys of a release that say who answers for it and why, and their words."""
SUBJECTS = 20
"""How many subjects of other prompts are named."""


def title(results: Results, release: Release) -> str:
    """Return the release's title, or the output's name without its suffix."""
    return release.title or checkpoint_stem(results.name)


def stated(release: Release) -> list[tuple[str, str]]:
    """Return who answers for a release and why, each with its words; only what is stated."""
    pairs = ((words, getattr(release, key)) for key, words in STATEMENTS.items())
    return [(words, value) for words, value in pairs if value]


def others_sentence(evaluation: Evaluation | None, words: Words) -> str:
    """Return what an evaluation's other prompts are about; empty where there are none."""
    found = [p.concept for p in evaluation.prompts if p.role == "other"] if evaluation else []
    if not found:
        return ""
    subjects = "" if words.are_private else f", about {listed([*dict.fromkeys(found)], SUBJECTS)}"
    return f"Other prompts: {len(found)}{subjects}."


def attack_name(row: StressRow) -> str:
    """Return what an attack's row is called."""
    if row.attack == "none":
        return "no attack"
    return f"{row.attack}: {row.how}" if row.how else row.attack


def drawn_with(settings: Settings) -> str:
    """Return how pictures were drawn."""
    return (
        f"{counted(settings.size, 'pixel')}, {counted(settings.steps, 'step')} "
        f"({settings.sampler}), guidance {settings.guidance:g}"
    )


def three_places(estimate: Estimate | None) -> str:
    """Format a figure to three places, with its interval where it has one."""
    return format_estimate(estimate, 3, " ({} to {})")


def attacks_not_tried(stress: Stress | None) -> list[Attack]:
    """Return the attacks that there are and that ``stress`` did not make."""
    tried = stress.attacks if stress else ()
    return [attack for attack in DESCRIPTIONS if attack not in tried]
