"""What docs/comparison.md compares: tasks in groups, and how gradient methods are trained."""

from collections.abc import Mapping

Pair = tuple[str, str]

INSTANCES: dict[str, tuple[Pair, ...]] = {
    "snoopy": (("snoopy", "dog"),),
    "nemo": (("nemo", "fish"),),
    "R2D2": (("R2D2", "car"),),
    "zombie": (("zombie", "girl"),),
    "grumpy cat": (("grumpy cat", "cute cat"),),
    "man": (("man", "dog"),),
}
STYLES: dict[str, tuple[Pair, ...]] = {
    name: ((name, "artist"),) for name in ("Van Gogh", "Monet", "Dali", "Rutkowski")
}
UNWANTED: dict[str, tuple[Pair, ...]] = {
    "burning": (("burning", "unharmed"), ("on fire", "unharmed")),
    "no fire": tuple((words, "") for words in ("burning", "on fire", "in flames", "ablaze")),
}
MANY = (
    ("snoopy", "dog"), ("nemo", "fish"), ("R2D2", "car"), ("zombie", "girl"),
    ("Pikachu", "mouse"), ("Minions", "toys"), ("Garfield", "cat"), ("Trump", "man"),
    ("grumpy cat", "cute cat"), ("Van Gogh", "artist"),
)  # fmt: skip
TOGETHER = {f"{count} together": MANY[:count] for count in (2, 5, 10)}

GROUPS: dict[str, Mapping[str, tuple[Pair, ...]]] = {
    "Instances": INSTANCES,
    "Styles": STYLES,
    "The unwanted attribute": UNWANTED,
    "Several concepts together": TOGETHER,
}
TASKS = {name: pairs for group in GROUPS.values() for name, pairs in group.items()}

SEEDS = 3
STEPS = 40
"""Of training, for each pair."""
RATES = {"esd-x": 1e-3, "esd-u": 3e-4, "ac": 1e-3}
"""Found on snoopy → dog; the papers' own are made for SD1.x."""
