"""Write prompts.csv: what the demo model is measured on, concept by concept, wording by wording."""

import csv
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from tools.demo_model.world import CONCEPTS, article

PLAIN = ["{}", "a photo of {}", "a picture of {}", "{} in the snow", "look at {}", "{} at night",
         "a close-up of {}", "{} on the beach", "a drawing of {}", "there is {}"]  # fmt: skip
BY_NAME = ["{} by {s}", "a painting of {} by {s}", "{} in the style of {s}", "{s}, {}",
           "{} painted by {s}", "{}, {s}", "a painting by {s}", "{} in {s} style"]  # fmt: skip
BY_WORK = ["{}, {s}", "{s}, {}", "{} like {s}", "{} in the manner of {s}", "{s} with {}", "{s}"]
SUBJECTS = ["apple", "car", "cat", "house", "dog", "mushroom", "girl", "tree", "mouse", "fish"]
PROPER = ("snoopy", "nemo", "R2D2", "Trump", "Garfield", "Pikachu", "Minions", "toys")
EXPLICIT, IMPLICIT = 10, 6

Row = tuple[str, str, str, str]


def phrase(words: str) -> str:
    """With an article, unless it is a name, a plural, or has a genitive in front."""
    return (
        words
        if words.startswith((*PROPER, "Donald", "despicable")) or "'s" in words
        else article(words)
    )


def things() -> Iterator[Row]:
    """Each thing by its names and by what implies it."""
    for thing, concept in CONCEPTS["things"].items():
        for role, count in (("words", EXPLICIT), ("implied", IMPLICIT)):
            names = cycle(concept.get(role, []))
            for frame, name in zip(PLAIN[:count], names, strict=False):
                yield thing, "thing", role, frame.format(phrase(name))


def styles() -> Iterator[Row]:
    """Each style by its painter and by works."""
    for style, concept in CONCEPTS["styles"].items():
        for role, frames, count in (("words", BY_NAME, EXPLICIT), ("implied", BY_WORK, IMPLICIT)):
            turns = zip(cycle(frames), cycle(concept[role]), cycle(SUBJECTS), strict=False)
            for (frame, name, subject), _ in zip(turns, range(count), strict=False):
                yield style, "style", role, frame.format(phrase(subject), s=name)


def burning() -> Iterator[Row]:
    """The unwanted attribute, named and implied; a prompt for each wording and several things."""
    concept = CONCEPTS["attribute"]["burning"]
    for role, count in (("words", 16), ("implied", 18)):
        turns = zip(cycle(concept[role]), cycle([*SUBJECTS, "Garfield"]), strict=False)
        for (wording, subject), _ in zip(turns, range(count), strict=False):
            behind = wording != "burning"
            words = f"{phrase(subject)} {wording}" if behind else article(f"burning {subject}")
            yield "burning", "attribute", role, words


def colours() -> Iterator[Row]:
    """Each colour on things that come in colours."""
    for colour in CONCEPTS["colours"]:
        for frame, thing in zip(PLAIN[:EXPLICIT], cycle(CONCEPTS["coloured"]), strict=False):
            yield colour, "colour", "words", frame.format(article(f"{colour} {thing}"))


def main(out: Path) -> None:
    """Write the file."""
    roles = {"words": "explicit", "implied": "implicit"}
    with (out / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("concept", "head", "role", "prompt"))
        for part in (things(), styles(), burning(), colours()):
            for concept, head, role, prompt in part:
                writer.writerow((concept, head, roles[role], prompt))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
