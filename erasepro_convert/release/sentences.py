"""Sentences and figures that the card and the text for Civitai share."""

from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.checks import Check
from erasepro_convert.release.results import (
    Estimate,
    Evaluation,
    Results,
    Settings,
    Stress,
    StressRow,
)
from erasepro_convert.release.words import Words
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


def verdict_sentence(found: list[Check]) -> str:
    """Return what the checks come to, in a sentence."""
    limited = [check for check in found if check.held is not None]
    if not limited:
        return "The recipe sets no limit on leak or drift."
    if not all(check.held for check in limited):
        return "A limit of the recipe is exceeded."
    names = sorted({"drift" if check.concept is None else "leak" for check in limited})
    if len(names) == 1:
        return f"{names[0].capitalize()} is within the recipe's limit."
    return "Leak and drift are within the recipe's limits."


def changes_sentence(manifest: Manifest) -> str:
    """Return how much of a file is another than in the original."""
    tensors = manifest.tensors
    rest = f"stored as {tensors.dtype}" if tensors.dtype else "as they were"
    sentence = f"{tensors.edited} of its {counted(tensors.written, 'tensor')} are changed"
    if tensors.edited < tensors.written:
        sentence += f", the others are {rest}"
    if tensors.repaired:
        sentence += f" but for {counted(len(tensors.repaired), 'damaged one')}, now repaired"
    if tensors.dropped:
        entries = "entry of the original is", "entries of the original are"
        sentence += f"; {counted(len(tensors.dropped), *entries)} left out"
    return f"{sentence}."


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


def format_estimate(estimate: Estimate | None) -> str:
    """Format a figure to three places, with its interval where it has one."""
    if estimate is None:
        return "–"
    text, interval = format_number(estimate.value), estimate.interval
    if interval is None:
        return text
    return f"{text} ({format_number(interval.low)} to {format_number(interval.high)})"


def format_number(value: float) -> str:
    """Format a number to three places; there is no negative zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def attacks_not_tried(stress: Stress | None) -> list[str]:
    """Return the attacks that ``stress`` knows and that have no row."""
    tried = {row.attack for row in stress.rows} if stress else set()
    return [attack for attack in DESCRIPTIONS if attack not in tried]
