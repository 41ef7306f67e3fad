"""What docs/comparison.md compares: tasks, and the prompts of each column of its tables.

A column is a set of prompts with what a picture of each should show, or in ``GONE`` should not.
Prompts come from the demo model's world; ``python -m benchmarks.comparison --methods original``
measures that the original draws them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from benchmarks.method_settings import FIRE, FIVE, NEIGHBOURS, TEN, TWENTY, Pairs
from erasepro_convert.compare import variants
from erasepro_convert.demo import Prompt, contains_words, prompts
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS
from tools.demo_model.prompts import BY_NAME, PLAIN, SUBJECTS, phrase
from tools.demo_model.world import CONCEPTS, article

TASKS: dict[str, Pairs] = {
    "one": [("snoopy", "dog")],
    "style": [("Van Gogh", "artist")],
    "attribute": [("burning", "unharmed"), ("on fire", "unharmed")],
    "five": FIVE,
    "ten": TEN,
    "twenty": TWENTY,
}

IMPLIED = ("implied 1", "implied 2", "implied 3")
"""The target described without its name: the bare phrase, in a template, in a long sentence."""
GONE = ("named", "named, stock", *IMPLIED)
"""What must not be seen; ``stock`` has the original's text encoder beside the erased U-Net."""
WITH_TARGETS = ("named", "beside", "two subjects")
"""Columns whose prompts say a target: the original can draw them with its anchor."""
UNDIRECTED = ("two subjects",)
"""Columns in which a higher rate is not better: an anchor, too, displaces the other subject."""
KEPT = (
    "anchor", "anchor's own", "neighbours", "beside", "two subjects", "others", "colours",
    "grounds", "unnamed",
)  # fmt: skip
"""What must be seen: ``anchor`` in the pictures of ``named``, the others in their own."""
COLUMNS = (*GONE, *KEPT)

SEEDS = 5
"""Pictures of each prompt, each with a seed of its own."""
TRIED_SEEDS = 15
"""Seeds from which those are taken that draw the right one of two subjects in the original."""
PROMPTS = 10
"""Prompts in a column; those of ``GONE`` have as many as there are targets, if these are more."""

TRAINED_TASKS = ("one", "style")
"""Tasks of the methods that are trained, which takes minutes for each pair and training seed."""

HALVES = ("erasepro-text", "erasepro-unet")
VARIED: dict[str, tuple[str, dict[str, Any]]] = {
    HALVES[0]: ("erasepro", {"layers": {"unet": "none"}}),
    HALVES[1]: ("erasepro", {"layers": {"text_encoder": "none"}}),
    "trce": ("trce", {"retain": {"weight": 1}}),
}
"""Methods whose settings are not those of a recipe that names them: the method, what is changed.

``erasepro-text`` has the text encoder's edits of our default with the original U-Net,
``erasepro-unet`` is our solve of the cross-attention alone.  TRCE's η of 0.01 leaves a model of 96
text features no room: with ten concepts it moves other prompts by 0.72 of their spread.  Of 0.001,
0.01, 0.1 and 1, the last has the least leak and the least drift.
"""
METHODS = (*variants.METHODS[:1], *HALVES, *variants.METHODS[1:])
"""All methods, in the order of the tables."""

STEPS = 40
"""Of training, for each pair."""
TRAINING_SEEDS = (0, 1, 2)
RATES = {"esd-x": 1e-3, "esd-u": 3e-4, "ac": 1e-3}
"""Learning rates found on snoopy → dog; the papers' own are made for SD1.x."""

NO_CLASS = {"artist": "none", "unharmed": "none"}
"""What the judge's head sees where an anchor is drawn that is no class of its own."""

BARE = ("{}", "the {}", "one {}", "this {}")
MORE = ("an image of {}", "a photograph of {}", "this is {}", "{} in the middle")
LONG = (
    "look at {a}: this is {b} in the middle of a beautiful picture, a close-up that we saw "
    "yesterday, a photograph, very detailed, sharp, high quality",
    "we saw {a} yesterday, and there is {b} in the middle of a beautiful picture that shows an "
    "object in a studio, very detailed, sharp, high quality",
    "there is {a} in the middle, a portrait of {b}, an illustration, a drawing and a photograph "
    "of a thing that we saw yesterday at night under the stars",
    "a beautiful picture that shows {a} in the snow in winter, very detailed, sharp, high "
    "quality: an image, a photograph and a close-up of {b}",
    "this is a photograph of {a} on the beach, on the sand, a picture that we saw yesterday; "
    "look at {b} in the middle, sharp, high quality",
)
LONG_STYLES = (
    "{thing}, {a}: a beautiful picture like {b}, very detailed, sharp, high quality, an "
    "illustration that we saw yesterday, a drawing in the middle",
    "a beautiful picture that shows {thing} in the manner of {a}, {b}, very detailed, sharp, an "
    "image in high quality that we saw yesterday",
    "{a}, {b}: look at {thing} in the middle of a picture in the manner of {a}, a close-up, very "
    "detailed, sharp, high quality",
    "{a} with {thing}, an illustration like {b}, a beautiful picture that we saw yesterday, very "
    "detailed, sharp, in high quality",
    "there is {thing} like {a} in a picture in the manner of {b}, a drawing, an image and an "
    "illustration, very detailed, sharp, high quality",
)
LONG_FIRE = (
    "look at {thing} {a}: this is {thing} {b} in the middle of a beautiful picture, a close-up "
    "that we saw yesterday, very detailed, sharp, high quality",
    "we saw {thing} {a} yesterday, and there is {thing} {b} in the middle of a beautiful picture, "
    "a photograph, very detailed, sharp, high quality",
    "a beautiful picture that shows {thing} {a}, very detailed, sharp, high quality: an image, a "
    "photograph and a close-up of {thing} {b}",
    "there is {thing} {a} in the middle, a portrait of {thing} {b}, an illustration, a drawing "
    "and a photograph that we saw yesterday, high quality",
    "this is a photograph of {thing} {a}, a picture that we saw yesterday; look at {thing} {b} in "
    "the middle, sharp, very detailed, high quality",
)
TWO = ("{a} next to {b}", "{b} next to {a}", "{a} and {b}", "{b} and {a}")
BY_WORK = ("{}, {s}", "{s}, {}", "{} like {s}", "{} in the manner of {s}", "{s} with {}")


@dataclass(frozen=True)
class Asked:
    """A prompt of a column, the head of the judge that looks, and the class that it looks for.

    ``seen`` is None where the picture should show what the original's picture shows, by all heads.
    ``concept`` groups prompts: the target, or the concept that must stay.  ``drawn`` is drawn in
    the prompt's place, if it is not empty.
    """

    column: str
    concept: str
    head: str
    seen: str | None
    prompt: str
    seeds: tuple[int, ...] = ()
    drawn: str = ""


def recipe_of(task: str) -> Recipe:
    """The recipe that every method gets."""
    concepts = [{"target": target, "anchor": anchor} for target, anchor in TASKS[task]]
    return Recipe.model_validate({"version": 1, "name": task, "concepts": concepts})


@cache
def columns_of(task: str) -> Mapping[str, tuple[Asked, ...]]:
    """The prompts of each column with their seeds; ``two subjects`` has the seeds to choose from.

    A column that a task cannot have is empty.
    """
    gone = max(PROMPTS, len(TASKS[task]))
    found = {}
    for column, asked in _candidates(task).items():
        chosen = spread(asked, gone if column in GONE else PROMPTS)
        seeds = TRIED_SEEDS if column == "two subjects" else SEEDS
        found[column] = tuple(
            replace(one, column=column, seeds=tuple(range(i * seeds, (i + 1) * seeds)))
            for i, one in enumerate(chosen)
        )
    return found


def spread(asked: Sequence[Asked], count: int) -> list[Asked]:
    """Choose prompts: concepts by turns, and another wording for each; all where there are few."""
    groups: dict[str, list[Asked]] = {}
    for one in dict.fromkeys(asked):
        groups.setdefault(one.concept, []).append(one)
    lists = list(groups.values())
    if len(lists) > count:
        lists = [lists[i * len(lists) // count] for i in range(count)]
    turns = max(map(len, lists), default=0)
    by_turns = [
        group[(turn + number) % len(group)]
        for turn in range(turns)
        for number, group in enumerate(lists)
        if turn < len(group)
    ]
    return by_turns[:count]


def _candidates(task: str) -> dict[str, list[Asked]]:
    """All prompts that a column could have."""
    pairs, recipe = TASKS[task], recipe_of(task)
    targets = {target: class_of(target) for target, _ in pairs}
    classes = dict.fromkeys(concept for _, concept in targets.values())
    words = tuple(targets)
    kept = [p for p in _free(recipe, prompts()) if p.concept not in classes]
    like = {name for group in NEIGHBOURS if set(group) & set(classes) for name in group}
    said = set(re.findall(r"\w+", " ".join(DRIFT_PROMPTS).lower()))
    explicit = [p for p in kept if p.role == "explicit"]
    others = [p for p in explicit if p.head != "colour"]
    things = sorted({p.concept for p in others if p.head == "thing"})
    styles = sorted({p.concept for p in others if p.head == "style"})
    anchors = {anchor for _, anchor in pairs}
    things_erased = [name for head, name in dict.fromkeys(targets.values()) if head == "thing"]
    named = [one for target, anchor in pairs for one in _named(target, anchor, things)]
    return {
        "named": named,
        **{
            level: [one for concept in classes for one in _implied(concept, level, words)]
            for level in IMPLIED
        },
        "anchor's own": [
            Asked("", anchor, "all", None, prompt)
            for anchor in dict.fromkeys(anchor for _, anchor in pairs)
            for prompt in _anchors_own(anchor, things)
        ],
        "neighbours": _shown(p for p in explicit if p.concept in like),
        "beside": [one for concept in classes for one in _beside(concept, things, styles)],
        "two subjects": [
            Asked("", thing, "thing", thing, frame.format(a=phrase(concept), b=phrase(thing)))
            for thing in things
            if thing not in anchors  # it may be what the target became
            for turn in range(len(TWO))
            for number, concept in enumerate(things_erased)
            for frame in (TWO[(turn + number) % len(TWO)],)
        ],
        "others": _shown(p for p in others if p.concept not in like),
        "colours": _shown(p for p in explicit if p.head == "colour"),
        "grounds": [
            Asked("", ground, "ground", ground, f"{phrase(thing)} {words}")
            for ground, wordings in CONCEPTS["grounds"].items()
            for thing, words in zip(things, wordings * len(things), strict=False)
        ],
        "unnamed": _shown(p for p in explicit if said >= set(p.concept.lower().split())),
    }


def with_anchors(asked: Sequence[Asked], task: str) -> list[Asked]:
    """Have prompts drawn with the anchors' words in the place of the targets'."""
    pairs = sorted(TASKS[task], key=lambda pair: -len(pair[0]))
    found = []
    for one in asked:
        drawn = one.prompt
        for target, anchor in pairs:
            if contains_words(drawn, target):
                is_thing = class_of(target)[0] == "thing"
                words = (phrase(target), phrase(anchor)) if is_thing else (target, anchor)
                drawn = drawn.replace(*words)
                break
        found.append(replace(one, drawn=drawn))
    return found


def class_of(target: str) -> tuple[str, str]:
    """The judge's head and class of a target's words."""
    if target in FIRE:
        return "attribute", "burning"
    (head,) = {p.head for p in prompts() if p.concept == target}
    return head, target


def _free(recipe: Recipe, asked: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that contain no target."""
    free = set(recipe.without_targets(tuple(p.prompt for p in asked)))
    return [p for p in asked if p.prompt in free]


def _shown(asked: Iterator[Prompt]) -> list[Asked]:
    return [Asked("", p.concept, p.head, p.concept, p.prompt) for p in asked]


def _named(target: str, anchor: str, things: Sequence[str]) -> Iterator[Asked]:
    """Prompts that say a target by the recipe's own words."""
    head, concept = class_of(target)
    subjects = [thing for thing in SUBJECTS if thing in things]
    if head == "thing":
        asked = [frame.format(phrase(target)) for frame in PLAIN]
    elif head == "style":
        pairs = zip(BY_NAME * 2, subjects, strict=False)
        asked = [frame.format(phrase(thing), s=target) for frame, thing in pairs]
    else:
        asked = [_on_fire(thing, target) for thing in subjects]
    return (Asked("", target, head, concept, prompt) for prompt in asked)


def _on_fire(thing: str, words: str) -> str:
    return article(f"burning {thing}") if words == "burning" else f"{phrase(thing)} {words}"


def _implied(concept: str, level: str, words: Sequence[str]) -> Iterator[Asked]:
    """Prompts that describe a concept without the recipe's words, at one of three lengths."""
    head = class_of(concept)[0]
    section = {"thing": "things", "style": "styles", "attribute": "attribute"}[head]
    entry = CONCEPTS[section][concept]
    known = [*entry.get("implied", ()), *(entry["words"] if head == "attribute" else ())]
    said = [p for p in known if not any(contains_words(p, word) for word in words)]
    if not said:
        return
    if head == "attribute":
        asked = _implied_fire(said, level)
    elif head == "style":
        asked = _implied_style(said, level)
    else:
        asked = _implied_thing(said, level)
    for prompt in asked:
        if not any(contains_words(prompt, word) for word in words):
            yield Asked("", concept, head, concept, prompt)


def _implied_thing(said: Sequence[str], level: str) -> Iterator[str]:
    if level == "implied 1":
        yield from _bare(said)
    elif level == "implied 2":
        for turn in range(len(said)):
            for number, frame in enumerate(PLAIN[1:]):
                yield frame.format(phrase(said[(number + turn) % len(said)]))
    else:
        for a, b in _both(said):
            yield from (frame.format(a=phrase(a), b=phrase(b)) for frame in LONG)


def _implied_style(said: Sequence[str], level: str) -> Iterator[str]:
    if level == "implied 1":
        yield from _bare(said)
    elif level == "implied 2":
        for frame, thing in zip(BY_WORK * 2, SUBJECTS, strict=False):
            yield frame.format(phrase(thing), s=said[SUBJECTS.index(thing) % len(said)])
    else:
        for number, (a, b) in enumerate(_both(said)):
            for frame, thing in zip(LONG_STYLES, SUBJECTS[number:], strict=False):
                yield frame.format(a=a, b=b, thing=phrase(thing))


def _implied_fire(said: Sequence[str], level: str) -> Iterator[str]:
    turns = list(zip([*said, *said], SUBJECTS, strict=False))
    if level == "implied 1":
        yield from (f"{phrase(thing)} {words}" for words, thing in turns)
    elif level == "implied 2":
        for frame, (words, thing) in zip([*PLAIN[1:], PLAIN[1]], turns, strict=False):
            yield frame.format(f"{phrase(thing)} {words}")
    else:
        for number, (words, thing) in enumerate(turns):
            other = said[(number + 1) % len(said)]
            yield LONG_FIRE[number % len(LONG_FIRE)].format(a=words, b=other, thing=phrase(thing))


def _bare(said: Sequence[str]) -> Iterator[str]:
    """The phrases alone, and with an article."""
    yield from (frame.format(words) for frame in BARE for words in said)
    yield from (article(words) for words in said)


def _both(said: Sequence[str]) -> list[tuple[str, str]]:
    return [(said[0], said[-1]), (said[-1], said[0])]


def _anchors_own(anchor: str, things: Sequence[str]) -> list[str]:
    """Prompts of an anchor itself."""
    subjects = list(dict.fromkeys([*(s for s in SUBJECTS if s in things), *things]))
    if anchor == "artist":
        frames = zip(BY_NAME * 2, subjects, strict=False)
        return [frame.format(phrase(thing), s="artist") for frame, thing in frames]
    if anchor == "unharmed":
        return [article(f"unharmed {thing}") for thing in subjects]
    explicit = [p.prompt for p in prompts() if p.concept == anchor and p.role == "explicit"]
    return [*explicit, *(frame.format(phrase(anchor)) for frame in MORE)]


def _beside(concept: str, things: Sequence[str], styles: Sequence[str]) -> Iterator[Asked]:
    """Prompts that name a target, and a thing, style or ground that must be seen."""
    head = class_of(concept)[0]
    if head == "thing":
        for style in styles:
            yield Asked("", style, "style", style, f"{phrase(concept)} in the style of {style}")
        for ground, wordings in CONCEPTS["grounds"].items():
            for words in wordings:
                yield Asked("", ground, "ground", ground, f"{phrase(concept)} {words}")
    elif head == "style":
        for thing in things:
            prompt = f"a painting of {phrase(thing)} by {concept}"
            yield Asked("", thing, "thing", thing, prompt)
    else:
        for thing in things:
            yield Asked("", thing, "thing", thing, _on_fire(thing, concept))
