"""The shipped prompts: templates of concepts, prompts to retain, prompts to measure on.

The sets share no prompt, so that nothing is measured on a prompt that was solved for.
"""

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of {}",
    "a picture of a {}",
    "a painting by {}",
    "an image in the style of {}",
    "the {} in the garden",
    "there is {}",
)
"""Templates that a concept is erased in: alone, as a thing, as a style, before other words."""

PROBE_TEMPLATES = (
    "a drawing of {}",
    "look at the {}",
    "a close-up of {}",
    "an artwork by {}",
    "one {} in the street at night",
    "a portrait in the manner of {}",
    "a big {} on a table",
    "we saw {} yesterday, sharp and detailed",
)
"""Templates that leak of a concept is measured in."""

RETAIN_PROMPTS = (
    "",
    "a photo of a dog",
    "a photo of a cat",
    "a horse in a meadow",
    "a bird on a branch",
    "a fish in the ocean",
    "a man with a beard",
    "a portrait of an old woman",
    "a girl reading a book",
    "a child on the beach",
    "a crowd of people in a street",
    "a red car on a road",
    "a blue bicycle against a wall",
    "a yellow boat under a bridge",
    "a green apple on a plate",
    "a purple flower",
    "a house in the snow",
    "a tree on a hill at sunset",
    "mountains above a lake",
    "a city at night, tall buildings",
    "a castle in the fog",
    "a bowl of soup on a wooden table",
    "a cup of coffee and a cake",
    "a kitchen with white furniture",
    "a chair and a lamp in a room",
    "a guitar on a stage",
    "a robot in a laboratory",
    "a spaceship above the earth",
    "a toy on the floor",
    "a mushroom in the grass",
    "a painting of a landscape",
    "a painting by Rembrandt",
    "an oil painting by Johannes Vermeer",
    "a sculpture by Rodin",
    "in the style of Hokusai",
    "a watercolor of a harbour",
    "a pencil drawing of a hand",
    "a black and white photograph",
    "a movie poster",
    "a cartoon of a mouse",
    "a map of the world",
    "abstract shapes in red and blue",
    "portrait, highly detailed, sharp focus, studio light",
    "a group of friends laughing",
    "a woman in a red dress",
    "a soldier with a sword",
    "the sun behind clouds",
    "rain on a window",
)
"""Prompts to retain where a recipe has none: people, animals, things, places, styles."""

DRIFT_PROMPTS = (
    "a dog running on the beach",
    "a cat asleep on a chair",
    "a photo of an elephant",
    "a horse in the snow",
    "a smiling girl with long hair",
    "a man driving a car",
    "an old house at night",
    "a blue car under a tree",
    "a red apple in a basket",
    "a green mushroom in a forest",
    "a yellow duck on the water",
    "a slice of cake",
    "a wooden table by the window",
    "mountains in winter",
    "a train in a station",
    "a bridge over a river",
    "a painting by Picasso",
    "a landscape by William Turner",
    "in the style of Gustav Klimt",
    "a charcoal drawing of a tree",
    "a statue in a park",
    "a mouse with a piece of cheese",
    "a toy train",
    "an empty room",
)
"""Prompts that drift is measured on."""

REFERENCE_WORDS = (
    "dog",
    "cat",
    "man",
    "girl",
    "house",
    "car",
    "tree",
    "fish",
    "apple",
    "flower",
    "mountain",
    "chair",
)
"""Words that every checkpoint knows.  Their distance to an anchor is that of unrelated words."""
