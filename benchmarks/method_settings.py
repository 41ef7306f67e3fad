"""What the study compares: settings (a recipe without concepts), tasks (concept pairs), files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("method_study.csv")
ENCODERS = ("edited", "stock")
HELD = ("neighbours", "beside", "anchor colours", "colours", "others", "unnamed")
"""Columns of what must stay."""

ONE = {"prompts": ["{}"]}
PLAIN = {"tolerance": 0, "tokens": "prompt", "retain": {"weight": 0}, "text_encoders": ["edited"]}
"""The paper's Eq. 5 and nothing else."""

SETTINGS: dict[str, dict[str, Any] | None] = {
    "before": None,
    "defaults": {},
    "UCE, 1 template": {"method": "uce", **ONE},
    "UCE, 8 templates": {"method": "uce"},
    "null-space": {"method": "null-space"},
    "Eq. 5, 1 template": {**PLAIN, **ONE, "pairing": "position"},
    "Eq. 5, 8 templates": PLAIN,
    "synonyms: auto": {"synonyms": "auto"},
    "strength ½": {"strength": 0.5},
    "strength 2": {"strength": 2},
    "tolerance 0.1": {"tolerance": 0.1},
    "tolerance 0.3": {"tolerance": 0.3},
    "retain.weight 0": {"retain": {"weight": 0}},
    "retain.weight 10": {"retain": {"weight": 10}},
    "tokens: prompt": {"tokens": "prompt"},
    "tokens: all": {"tokens": "all"},
    "edited encoder only": {"text_encoders": ["edited"]},
    "1 template": ONE,
}

Pairs = list[tuple[str, str]]
FIRE = ("burning", "on fire", "in flames", "ablaze")
FIVE = [
    ("R2D2", "car"), ("nemo", "fish"), ("zombie", "girl"), ("Garfield", "cat"), ("Monet", "artist"),
]  # fmt: skip
TEN = [
    *FIVE, ("snoopy", "dog"), ("Pikachu", "mouse"), ("Minions", "toys"), ("Van Gogh", "artist"),
    ("burning", "unharmed"),
]  # fmt: skip
TWENTY = [
    *TEN, ("Trump", "man"), ("grumpy cat", "cat"), ("cute cat", "cat"), ("Dali", "artist"),
    ("Rutkowski", "artist"), ("Seurat", "artist"), ("Mondrian", "artist"), ("mushroom", "tree"),
    ("rubber duck", "fish"), ("ice cream cone", "apple"),
]  # fmt: skip

TASKS: dict[str, list[Pairs]] = {
    "instance": [[("snoopy", "dog")], [("R2D2", "car")]],
    "style": [[("Van Gogh", "artist")]],
    "attribute": [[(word, "unharmed") for word in FIRE[:2]]],
    "attribute, no words": [[(word, "") for word in FIRE[:2]]],
    "five": [FIVE],
    "ten": [TEN],
    "twenty": [TWENTY],
}
"""Each a list of recipes, by their pairs, that share the task's pictures."""

NEIGHBOURS = (
    ("snoopy", "nemo", "R2D2", "Garfield", "Pikachu", "Minions"),
    ("dog", "cat", "cute cat", "grumpy cat", "mouse", "fish"),
    ("girl", "man", "zombie", "Trump"),
    ("Van Gogh", "Monet", "Dali", "Rutkowski", "Seurat", "Mondrian"),
)
"""Concepts that are alike: cartoons, animals, people, painters."""

FILES: Mapping[str, Mapping[str, Any]] = {
    "demo": {},
    "offset 3": {"offset": 3},
    "all": {"offset": 3, "gains": 2, "scales": 2, "seed": 1},
}
"""Files with the same pictures as the demo model: arguments of ``tests.same_pictures``."""

METHODS = ["before", "defaults", "UCE, 1 template", "UCE, 8 templates", "null-space"]
PLAN: list[tuple[str, str, str]] = [
    *(("demo", task, s) for task in ("ten", "five") for s in METHODS),
    *(("demo", "ten", s) for s in list(SETTINGS)[6:]),
    *(("demo", t, s) for t in ("attribute", "style", "instance", "twenty") for s in METHODS),
    *((file, t, "defaults") for file in list(FILES)[1:] for t in ("ten", "five", "attribute")),
    *(("demo", "attribute, no words", s) for s in ("before", "defaults", "UCE, 8 templates")),
]
"""File, task and setting of each line."""
