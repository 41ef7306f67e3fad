"""What recipes with a name are for, without checking them in full."""

from dataclasses import dataclass

from erasepro_convert.errors import RecipeError
from erasepro_convert.library import NamedFile, find_all, shipped_root
from erasepro_convert.recipe.yaml_document import read_document

SHIPPED = "shipped"


@dataclass(frozen=True)
class DescribedRecipe:
    """A recipe of the library: what it says about itself, or the mistake that it has.

    ``origin`` is the user's folder that it comes from, or "shipped"; ``folder`` is the folder below
    it, "" for none.
    """

    name: str
    about: str
    targets: tuple[str, ...]
    origin: str
    folder: str

    def contains(self, word: str) -> bool:
        """Whether a word stands in the name, the folder, the line about it or a target."""
        texts = (self.name, self.folder, self.about, *self.targets)
        return any(word.lower() in text.lower() for text in texts)


def describe_recipes() -> tuple[DescribedRecipe, ...]:
    """Describe all recipes that have a name: the user's own, then those that are shipped.

    Raises UsageError where two recipes below one folder have the same name.
    """
    return tuple(_describe(named) for named in find_all().values())


def _describe(named: NamedFile) -> DescribedRecipe:
    """Read what a list needs, and no more: to check all recipes would take seconds."""
    about, targets = f"has no concepts: erasepro-convert check {named.name}", tuple[str, ...]()
    try:
        match read_document(named.file).data:
            case {"concepts": [*concepts], **others}:
                about = str(others.get("about", ""))
                targets = tuple(str(c.get("target", "")) for c in concepts if isinstance(c, dict))
    except RecipeError as error:
        about = f"cannot be read: {error}"
    origin = SHIPPED if named.root == shipped_root() else str(named.root)
    return DescribedRecipe(named.name, about, targets, origin, named.folder)
