"""The shipped prompts: templates of concepts, prompts to retain, prompts to measure on.

The sets share no prompt: nothing is measured or calibrated on a prompt that was solved for.
What the prompts for drift are about stands in no other set.
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
    "a flower",
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
    "an elephant by a waterfall",
    "a rubber duck",
    "a duck with her ducklings",
    "an ice cream cone",
    "a train leaving the station",
    "a slice of lemon pie",
    "a tiger in the jungle",
    "two boys with a kite",
    "a nurse in a hospital",
    "a grandfather with a pipe",
    "a wedding in a park",
    "a motorcycle",
    "an orange pumpkin",
    "a pink rose",
    "a purple curtain",
    "a silver ring",
    "a desert at noon",
    "an owl in a forest",
    "a slice of pizza",
    "a statue of a goddess",
    "a landscape by William Turner",
    "in the style of Gustav Klimt",
    "Georges Seurat, a circus",
    "an engraving by Dürer",
)
"""Prompts that drift is measured on: things, colours and styles that nothing else here names."""

CALIBRATION_TEMPLATES = (
    "my {} at dawn",
    "a sketch of the {}",
    "some {} near a river",
    "inspired by {}",
    "this {} is nice",
    "a corner with {} behind it",
)
"""Templates of targets on which each matrix's regularisation is chosen."""

CALIBRATION_PROMPTS = (
    "a river in the valley",
    "a king and a queen",
    "a bear in the wilderness",
    "an umbrella",
    "a church tower",
    "a drawing by Leonardo da Vinci",
    "a superhero in a comic",
    "a basket of pears",
    "a wolf howling",
    "a ship at sea",
    "a pond with frogs",
    "a portrait by Renoir",
    "pasta with basil",
    "a knight on his way",
    "a market stall",
    "the moon",
    "a violin",
    "a garden of tulips",
    "a brown monkey",
    "a doctor at work",
    "a truck and a bus",
    "an old automobile",
    "a village in autumn",
    "a puppy in the sand",
    "a kitten in a meadow",
    "the ocean in winter",
    "a gentleman and his pet",
    "a machine for memory",
    "a beautiful scene under the stars",
    "something electric",
)
"""Prompts that must stay as they are, on which each matrix's regularisation is chosen."""

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
