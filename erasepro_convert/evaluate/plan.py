"""What is asked of both models: prompts by concept and by the part that they play."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from erasepro_convert import demo
from erasepro_convert.errors import UsageError
from erasepro_convert.recipe import Concept, Recipe

Role = Literal["target", "implied", "anchor", "other"]
"""``implied`` prompts mean the target by other words; ``other`` ones are of something else."""

COLUMNS = ("concept", "anchor", "role", "prompt", "prompt_id")


@dataclass(frozen=True)
class Asked:
    """A prompt.

    ``concept`` is the target that it belongs to or, of an ``other`` prompt, what it shows.
    """

    concept: str
    anchor: str
    role: Role
    prompt: str
    prompt_id: str


def read_prompts(path: Path) -> list[Asked]:
    """Prompts of a CSV file with the columns concept, anchor, role, prompt and prompt_id.

    Raises UsageError, with the line, for what is none; OSError passes through.
    """
    return list(_read(path.read_text("utf-8-sig"), str(path)))


def shipped_prompts() -> list[Asked]:
    """Ten prompts for each concept of the shipped recipes, and others."""
    text = (files(__package__) / "prompts.csv").read_text("utf-8")
    return list(_read(text, "prompts.csv"))


def demo_prompts() -> list[Asked]:
    """The demo world's prompts, each concept's own as ``target`` or ``implied``."""
    return [
        Asked(p.concept, "", "target" if p.role == "explicit" else "implied", p.prompt, f"demo-{i}")
        for i, p in enumerate(demo.prompts())
    ]


def plan(recipe: Recipe, given: Sequence[Asked], *, is_demo: bool) -> list[Asked]:
    """All that is asked, each prompt once.

    For each concept pair its own prompts are ``given`` ones, else shipped ones, else its held-out
    templates; the anchor's are those of the target with the anchor's words, unless they are given.
    Others are ``given``, else shipped; none of them has a target's or anchor's words.
    """
    shipped = demo_prompts() if is_demo else shipped_prompts()
    asked: list[Asked] = []
    for concept in recipe.concepts:
        mine = list(_of_concept(concept, given) or _of_concept(concept, shipped))
        asked += mine or _from_templates(concept, recipe)
    others = [one for one in given if one.role == "other"] or _others(shipped, recipe, is_demo)
    return list({(one.role, one.concept, one.prompt): one for one in (*asked, *others)}.values())


def _of_concept(concept: Concept, known: Iterable[Asked]) -> list[Asked]:
    """The prompts that are known of a pair, with its anchor's."""
    target, anchor = concept.target, concept.anchor
    mine = [one for one in known if one.concept.lower() == target.lower() and one.role != "other"]
    named = [one for one in mine if one.role == "target"]
    found = [Asked(target, anchor, one.role, one.prompt, one.prompt_id) for one in mine]
    if not any(one.role == "anchor" for one in mine):
        found += [
            Asked(target, anchor, "anchor", said, f"{one.prompt_id}-anchor")
            for one in named
            if (said := _said_of(one.prompt, target, anchor)) is not None
        ]
    return found


def _said_of(prompt: str, target: str, anchor: str) -> str | None:
    """A prompt with the anchor's words for the target's; None where these are not in it."""
    place = prompt.lower().find(target.lower())
    if place < 0:
        return None
    return " ".join((prompt[:place] + anchor + prompt[place + len(target) :]).split())


def _from_templates(concept: Concept, recipe: Recipe) -> Iterator[Asked]:
    for number, (target, anchor) in enumerate(concept.filled(recipe.probe.prompts), 1):
        name = f"{concept.target}-{number}"
        yield Asked(concept.target, concept.anchor, "target", target, name)
        yield Asked(concept.target, concept.anchor, "anchor", anchor, f"{name}-anchor")


def _others(shipped: Iterable[Asked], recipe: Recipe, is_demo: bool) -> list[Asked]:
    """Shipped prompts of what the recipe is not about: in the demo's world one for each thing."""
    words = [w.lower() for c in recipe.concepts for w in (c.target, c.anchor) if w]
    found: dict[str, Asked] = {}
    for one in shipped:
        told = f"{one.concept} {one.prompt}".lower()
        if one.role in (("target",) if is_demo else ("other",)) and not any(
            word in told for word in words
        ):
            found.setdefault(
                one.concept if is_demo else one.prompt,
                Asked(one.concept, "", "other", one.prompt, one.prompt_id),
            )
    return list(found.values())


def _read(text: str, name: str) -> Iterator[Asked]:
    rows = csv.DictReader(io.StringIO(text))
    if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
        raise UsageError(f"{name}: it has no column {missing[0]}; needed are {', '.join(COLUMNS)}")
    for row in rows:
        where = f"{name}:{rows.line_num}"
        if not all(isinstance(row[column], str) for column in COLUMNS):
            raise UsageError(f"{where}: a column is missing")
        roles: tuple[Role, ...] = get_args(Role)
        role = next((role for role in roles if role == row["role"]), None)
        if role is None:
            raise UsageError(f"{where}: role {row['role']!r} is none of {', '.join(roles)}")
        yield Asked(row["concept"], row["anchor"], role, row["prompt"], row["prompt_id"])
