"""What the study compares: settings (a recipe without concepts) and tasks (concept pairs)."""

from typing import Any

TEMPLATES = ("{}", "a {}", "a photo of {}", "a painting by {}")
PLAIN = {"tolerance": 0, "retain": {"weight": 0}, "text_encoders": ["edited"]}
"""The paper's Eq. 5 and nothing else."""
ONE = {"prompts": ["{}"]}
AROUND = {"tolerance": None}
"""0.1·√n for n concepts: what one thing is changed around."""

SETTINGS: dict[str, dict[str, Any] | None] = {
    "before": None,
    "defaults": {},
    "UCE, 1 template": {"method": "uce", **ONE},
    "UCE, 8 templates": {"method": "uce"},
    "Eq. 5, 1 template": {**PLAIN, **ONE, "pairing": "position"},
    "Eq. 5, 8 templates": PLAIN,
    "Alg. 2 -w": {
        "method": "erasepro-modified", **PLAIN, **ONE, "pairing": "position",
        "tokens": {"first": 5}, "layers": {"text_encoder": "5-12"},
    },
    "Alg. 2 -s": {
        "method": "erasepro-modified", **PLAIN, **ONE, "pairing": "position",
        "tokens": {"first": 8},
    },
    "edited encoder only": {**AROUND, "text_encoders": ["edited"]},
    "τ = 0": {"tolerance": 0},
    "τ = 0.01": {"tolerance": 0.01},
    "τ = 0.05": {"tolerance": 0.05},
    "τ = 0.1": {"tolerance": 0.1},
    "τ = 0.15": {"tolerance": 0.15},
    "τ = 0.2": {"tolerance": 0.2},
    "τ = 0.3": {"tolerance": 0.3},
    "λ = 0": {**AROUND, "retain": {"weight": 0}},
    "λ = 1": {**AROUND, "retain": {"weight": 1}},
    "λ = 100": {**AROUND, "retain": {"weight": 100}},
    "pairing by position": {**AROUND, "pairing": "position"},
    "first 8 tokens": {**AROUND, "tokens": {"first": 8}},
    "all 77 tokens": {**AROUND, "tokens": "all"},
    "1 template": {**AROUND, **ONE},
    "4 templates": {**AROUND, "prompts": TEMPLATES},
    "1 template, position, first 8": {
        **AROUND, **ONE, "pairing": "position", "tokens": {"first": 8},
    },
}  # fmt: skip

Pairs = list[tuple[str, str]]
FIRE = ("burning", "on fire", "in flames", "ablaze")
FIVE = [
    ("R2D2", "car"), ("nemo", "fish"), ("zombie", "girl"), ("Garfield", "cat"), ("Monet", "artist"),
]  # fmt: skip
TEN = [
    *FIVE, ("snoopy", "dog"), ("Pikachu", "mouse"), ("Minions", "toys"), ("Van Gogh", "artist"),
    ("burning", "unharmed"),
]  # fmt: skip

TASKS: dict[str, list[Pairs]] = {
    "instance": [[("snoopy", "dog")], [("R2D2", "car")]],
    "style": [[("Van Gogh", "artist")]],
    "attribute": [[(word, "unharmed") for word in FIRE[:2]]],
    "five": [FIVE],
    "two": [FIVE[:2]],
    "ten": [TEN],
    "attribute, no words": [[(word, "") for word in FIRE[:2]]],
    "attribute, 4 words, no words": [[(word, "") for word in FIRE]],
}
"""Each a list of recipes, by their pairs, that share the task's pictures."""

EVERY = list(SETTINGS)
METHODS = EVERY[:6]
NO_WORDS = [
    *EVERY[:2], "UCE, 8 templates", "Alg. 2 -s", "τ = 0.2", "1 template",
    "1 template, position, first 8",
]  # fmt: skip
PLAN: dict[str, list[str]] = {
    "style": EVERY,
    "instance": EVERY,
    "attribute": EVERY,
    "five": EVERY,
    "two": METHODS,
    "ten": METHODS,
    "attribute, no words": NO_WORDS,
    "attribute, 4 words, no words": NO_WORDS,
}
"""The settings that each task is measured with."""
