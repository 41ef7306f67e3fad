"""What is asked of both models: prompts by concept and by the part that they play."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from erasepro_convert import demo
from erasepro_convert.evaluate.csv_table import Table, text_lines
from erasepro_convert.recipe import Concept, Recipe

Role = Literal["target", "implied", "anchor", "other"]
"""``implied`` prompts mean the target by other words; ``other`` ones are of something else."""

DEMO_OTHERS = 10

COLUMNS = ("concept", "anchor", "role", "prompt", "prompt_id")


@dataclass(frozen=True)
class ImageRequest:
    """A picture to make; its guidance scale goes before that of the settings."""

    prompt: str
    seed: int
    guidance: float


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt.

    ``concept`` is the target that it belongs to or, of an ``other`` prompt, what it shows.
    """

    concept: str
    anchor: str
    role: Role
    prompt: str
    prompt_id: str

    def shots(self, seeds: int, guidance: float) -> tuple[ImageRequest, ...]:
        """Its pictures, one a seed."""
        return tuple(ImageRequest(self.prompt, seed, guidance) for seed in range(seeds))


def read_prompts(path: Path) -> list[EvalPrompt]:
    """Prompts of a CSV file with the columns concept, anchor, role, prompt and prompt_id.

    Raises UsageError, with the line, for what is none; OSError passes through.
    """
    return list(_read(text_lines(path), str(path)))


def shipped_prompts() -> list[EvalPrompt]:
    """Ten prompts for each concept of the shipped recipes, and others."""
    text = (files(__package__) / "prompts.csv").read_text("utf-8")
    return list(_read(text.splitlines(keepends=True), "prompts.csv"))


def demo_prompts(concepts: Iterable[Concept]) -> list[EvalPrompt]:
    """The demo world's prompts, each concept's own as ``target`` or ``implied``.

    A target that is another word for one of its classes ("on fire" for burning) has that class's
    prompts too: those with the word name it, the others imply it.
    """
    known = demo.prompts()
    found = [
        EvalPrompt(
            p.concept, "", "target" if p.role == "explicit" else "implied", p.prompt, f"demo-{i}"
        )
        for i, p in enumerate(known)
    ]
    names = {one.concept.lower() for one in found}
    for words in (concept.target for concept in concepts):
        if words.lower() in names or (means := demo.meaning(words)) is None:
            continue
        found += [
            EvalPrompt(
                words, "", "target" if demo.says(p.prompt, words) else "implied", p.prompt,
                f"demo-{i}",
            )
            for i, p in enumerate(known)
            if (p.head, p.concept) == means
        ]  # fmt: skip
    return found


def plan(recipe: Recipe, given: Sequence[EvalPrompt], *, is_demo: bool) -> list[EvalPrompt]:
    """All that is asked, each prompt once.

    A concept pair's own prompts are ``given`` ones (none: those of the recipe's file), else of the
    recipe's templates, else shipped ones, else of its held-out templates; the anchor's are those of
    the target with the anchor's words, unless they are given.  Others are ``given``, else the
    recipe's without a target's words, else those shipped without a target's or anchor's words.

    Raises UsageError for what is wrong in the recipe's file of prompts; OSError passes through.
    """
    wanted = recipe.evaluate
    if not given and wanted.csv:
        given = read_prompts(wanted.csv)
    shipped = demo_prompts(recipe.concepts) if is_demo else shipped_prompts()
    asked: list[EvalPrompt] = []
    for concept in recipe.concepts:
        asked += (
            _of_concept(concept, given)
            or _from_templates(concept, wanted.prompts)
            or _of_concept(concept, shipped)
            or _from_templates(concept, recipe.probe.prompts)
        )
    others = [one for one in given if one.role == "other"] or [
        EvalPrompt(other.concept or other.prompt, "", "other", other.prompt, f"other-{number}")
        for number, other in enumerate(wanted.others, 1)
        if recipe.without_targets((other.prompt,))
    ]
    others = others or _others(shipped, recipe, is_demo)
    return list({(one.role, one.concept, one.prompt): one for one in (*asked, *others)}.values())


def _of_concept(concept: Concept, known: Iterable[EvalPrompt]) -> list[EvalPrompt]:
    """The prompts that are known of a pair, with its anchor's."""
    target, anchor = concept.target, concept.anchor
    mine = [one for one in known if one.concept.lower() == target.lower() and one.role != "other"]
    named = [one for one in mine if one.role == "target"]
    found = [EvalPrompt(target, anchor, one.role, one.prompt, one.prompt_id) for one in mine]
    if not any(one.role == "anchor" for one in mine):
        found += [
            EvalPrompt(target, anchor, "anchor", said, f"{one.prompt_id}-anchor")
            for one in named
            if (said := _said_of(one.prompt, target, anchor)) is not None
        ]
    return found


def _said_of(prompt: str, target: str, anchor: str) -> str | None:
    """A prompt with the anchor's words for the target's; None where these are not in it."""
    place = re.search(rf"(?<!\w){re.escape(target)}(?!\w)", prompt, re.IGNORECASE)
    if place is None:
        return None
    return " ".join((prompt[: place.start()] + anchor + prompt[place.end() :]).split())


def _from_templates(concept: Concept, templates: tuple[str, ...]) -> list[EvalPrompt]:
    found = []
    for number, (target, anchor) in enumerate(concept.prompt_pairs(templates), 1):
        name = f"{concept.target}-{number}"
        found += [
            EvalPrompt(concept.target, concept.anchor, "target", target, name),
            EvalPrompt(concept.target, concept.anchor, "anchor", anchor, f"{name}-anchor"),
        ]
    return found


def _others(shipped: Iterable[EvalPrompt], recipe: Recipe, is_demo: bool) -> list[EvalPrompt]:
    """Shipped prompts of what the recipe is not about: in the demo's world one for each thing."""
    words = [re.escape(w) for c in recipe.concepts for w in (c.target, c.anchor) if w]
    about = re.compile(rf"(?<!\w)(?:{'|'.join(words)})s?(?!\w)", re.IGNORECASE)
    means = {demo.meaning(c.target) for c in recipe.concepts} if is_demo else set()
    meant = {place[1] for place in means if place}
    found: dict[str, EvalPrompt] = {}
    for one in shipped:
        if (
            one.role == ("target" if is_demo else "other")
            and one.concept not in meant
            and not about.search(f"{one.concept}\n{one.prompt}")
        ):
            found.setdefault(
                one.concept if is_demo else one.prompt,
                EvalPrompt(one.concept, "", "other", one.prompt, one.prompt_id),
            )
    others = list(found.values())
    if is_demo and others:  # as many as the paper has, from all over its world
        others = [others[i * len(others) // DEMO_OTHERS] for i in range(DEMO_OTHERS)]
    return others


def _read(lines: Iterable[str], name: str) -> Iterator[EvalPrompt]:
    table = Table(lines, name)
    table.require(COLUMNS)
    roles: tuple[Role, ...] = get_args(Role)
    for row in table:
        role = next((role for role in roles if role == row["role"]), None)
        if role is None:
            table.fail(f"role {row['role']!r} is none of {', '.join(roles)}")
        yield EvalPrompt(row["concept"], row["anchor"], role, row["prompt"], row["prompt_id"])
