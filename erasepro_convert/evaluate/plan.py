"""The prompts of an evaluation, each with its concept and its role."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from erasepro_convert import demo
from erasepro_convert.datasets.csv_reader import CsvReader, read_lines
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.runtime.printable import quoted

Role = Literal["target", "implied", "anchor", "other"]
"""What a prompt tests.

``target`` prompts name the target, ``implied`` ones mean it by other words, ``anchor`` ones have
the anchor's words in place of the target's, and ``other`` ones are about something else.
"""

DEMO_OTHERS = 10
"""How many other prompts the demo model is evaluated on: as many as in the paper."""

COLUMNS = ("concept", "anchor", "role", "prompt", "prompt_id")


@dataclass(frozen=True)
class ImageRequest:
    """A picture to draw; its guidance scale takes precedence over the settings'."""

    prompt: str
    seed: int
    guidance: float


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt of an evaluation.

    ``concept`` is the target that the prompt tests; for an ``other`` prompt it is what the
    picture should show.
    """

    concept: str
    anchor: str
    role: Role
    prompt: str
    prompt_id: str

    def requests(self, seeds: int, guidance: float) -> tuple[ImageRequest, ...]:
        """Return one request for each seed."""
        return tuple(ImageRequest(self.prompt, seed, guidance) for seed in range(seeds))


def read_prompts(path: Path) -> list[EvalPrompt]:
    """Read a CSV file with the columns concept, anchor, role, prompt and prompt_id.

    Raises UsageError, with the line, for a file of another form; OSError passes through.
    """
    return list(_read(read_lines(path), str(path)))


def shipped_prompts() -> list[EvalPrompt]:
    """Read the shipped prompts: ten for each concept of some recipes, and other ones."""
    text = (files(__package__) / "prompts.csv").read_text("utf-8")
    return list(_read(text.splitlines(keepends=True), "prompts.csv"))


def demo_prompts(concepts: Iterable[Concept]) -> list[EvalPrompt]:
    """Return the prompts of the demo model's world, each as ``target`` or ``implied``.

    A concept that is another word for one of the world's classes ("on fire" for burning) gets
    that class's prompts too: those that contain the word name the concept, the others imply it.
    """
    known = demo.prompts()
    found = [
        EvalPrompt(
            p.concept, "", "target" if p.role == "explicit" else "implied", p.prompt, f"demo-{i}"
        )
        for i, p in enumerate(known)
    ]
    names = {prompt.concept.lower() for prompt in found}
    for words in (concept.target for concept in concepts):
        if words.lower() in names or (meant := demo.find_class(words)) is None:
            continue
        found += [
            EvalPrompt(
                words, "", "target" if demo.contains_words(p.prompt, words) else "implied",
                p.prompt, f"demo-{i}",
            )
            for i, p in enumerate(known)
            if (p.head, p.concept) == meant
        ]  # fmt: skip
    return found


def plan_prompts(
    recipe: Recipe, user_prompts: Sequence[EvalPrompt], *, is_demo: bool
) -> list[EvalPrompt]:
    """Return all prompts of an evaluation, each once.

    The prompts of a target are the user's (else those of the recipe's file), else the recipe's
    templates, else the shipped prompts, else the recipe's held-out templates.  The anchor's prompts
    are the target's with the anchor's words, unless the user gives some.  The other prompts are the
    user's, else those of the recipe that have no target's words, else shipped ones that have no
    words of a target or an anchor.

    Raises UsageError for mistakes in the recipe's file of prompts; OSError passes through.
    """
    config = recipe.evaluate
    if not user_prompts and config.csv:
        user_prompts = read_prompts(config.csv)
    shipped = demo_prompts(recipe.concepts) if is_demo else shipped_prompts()
    prompts: list[EvalPrompt] = []
    for concept in recipe.concepts:
        prompts += (
            _concept_prompts(concept, user_prompts)
            or _from_templates(concept, config.prompts)
            or _concept_prompts(concept, shipped)
            or _from_templates(concept, recipe.probe.prompts)
        )
    others = [prompt for prompt in user_prompts if prompt.role == "other"] or [
        EvalPrompt(other.concept or other.prompt, "", "other", other.prompt, f"other-{number}")
        for number, other in enumerate(config.others, 1)
        if recipe.without_targets((other.prompt,))
    ]
    prompts += others or _other_prompts(shipped, recipe, is_demo)
    return list({(p.role, p.concept, p.prompt): p for p in prompts}.values())


def _concept_prompts(concept: Concept, known: Iterable[EvalPrompt]) -> list[EvalPrompt]:
    """Select the known prompts of a target, and add its anchor's where they are not known."""
    target, anchor = concept.target, concept.anchor
    mine = [p for p in known if p.concept.lower() == target.lower() and p.role != "other"]
    found = [EvalPrompt(target, anchor, p.role, p.prompt, p.prompt_id) for p in mine]
    if not any(prompt.role == "anchor" for prompt in mine):
        found += [
            EvalPrompt(target, anchor, "anchor", text, f"{prompt.prompt_id}-anchor")
            for prompt in mine
            if prompt.role == "target"
            and (text := _with_anchor(prompt.prompt, target, anchor)) is not None
        ]
    return found


def _with_anchor(prompt: str, target: str, anchor: str) -> str | None:
    """Put the anchor's words in place of the target's; None where the prompt lacks these."""
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


def _other_prompts(
    shipped: Iterable[EvalPrompt], recipe: Recipe, is_demo: bool
) -> list[EvalPrompt]:
    """Select shipped prompts that the recipe is not about: for the demo, one for each class."""
    words = [re.escape(w) for c in recipe.concepts for w in (c.target, c.anchor) if w]
    about = re.compile(rf"(?<!\w)(?:{'|'.join(words)})s?(?!\w)", re.IGNORECASE)
    classes = {demo.find_class(c.target) for c in recipe.concepts} if is_demo else set()
    erased = {found[1] for found in classes if found}
    selected: dict[str, EvalPrompt] = {}
    for prompt in shipped:
        if (
            prompt.role == ("target" if is_demo else "other")
            and prompt.concept not in erased
            and not about.search(f"{prompt.concept}\n{prompt.prompt}")
        ):
            selected.setdefault(
                prompt.concept if is_demo else prompt.prompt,
                EvalPrompt(prompt.concept, "", "other", prompt.prompt, prompt.prompt_id),
            )
    others = list(selected.values())
    if is_demo and others:  # spread over all classes of the demo's world
        others = [others[i * len(others) // DEMO_OTHERS] for i in range(DEMO_OTHERS)]
    return others


def _read(lines: Iterable[str], name: str) -> Iterator[EvalPrompt]:
    table = CsvReader(lines, name)
    table.require(COLUMNS)
    roles: tuple[Role, ...] = get_args(Role)
    for row in table:
        role = next((role for role in roles if role == row["role"]), None)
        if role is None:
            table.fail(f"role {quoted(row['role'])} is none of {', '.join(roles)}")
        yield EvalPrompt(row["concept"], row["anchor"], role, row["prompt"], row["prompt_id"])
