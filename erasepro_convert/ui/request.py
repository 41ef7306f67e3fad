"""What the user entered, and the recipe that it makes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import erasepro_convert as erasepro
from erasepro_convert.errors import RecipeError
from erasepro_convert.ui.folders import Folders

ARROW = " → "
NO_WORDS = "(nothing)"
"""How an anchor without words is shown."""


def pair_text(target: str, anchor: str) -> str:
    """Return a target and its anchor as the page lists them."""
    return f"{target.strip()}{ARROW}{anchor.strip() or NO_WORDS}"


def pair_of(text: str) -> tuple[str, str]:
    """Return the target and the anchor of a text that ``pair_text`` made."""
    target, _, anchor = text.rpartition(ARROW)
    return target, "" if anchor == NO_WORDS else anchor


@dataclass(frozen=True)
class Request:
    """All fields on the way from a checkpoint to a release, as the page has them."""

    checkpoint: str = ""
    recipes: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    strength: float = 1.0
    output: str = ""
    replace: bool = False
    author: str = ""
    license: str = ""
    contact: str = ""
    purpose: str = ""
    thumbnail: str = ""
    lora: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def recipe(self, folders: Folders) -> erasepro.Recipe:
        """Return the recipe that was chosen.  Raises UsageError or RecipeError."""
        if not self.recipes and not self.pairs:
            raise RecipeError("choose a recipe, or add words to the list")
        chosen = load_recipes(folders, self.recipes) if self.recipes else None
        data: dict[str, Any] = chosen.model_dump(mode="json") if chosen else {"concepts": []}
        known = [(concept["target"], concept["anchor"]) for concept in data["concepts"]]
        added = [pair for pair in map(pair_of, self.pairs) if pair not in known]
        data["concepts"] = [*data["concepts"], *({"target": t, "anchor": a} for t, a in added)]
        names = [chosen.name] if chosen else []
        data["name"] = "+".join([*names, *(target for target, _ in added)])
        if data.get("tolerance") is None:
            data["strength"] = self.strength
        if stated := self._release():
            data["release"] = {**(data.get("release") or {}), **stated}
        return erasepro.make_recipe(data)

    def suggested_output(self) -> str:
        """Return a name for the output: beside the checkpoint, with what was erased in it."""
        if not self.checkpoint or not (self.recipes or self.pairs):
            return ""
        names = [*(Path(name).stem for name in self.recipes), *(pair_of(p)[0] for p in self.pairs)]
        words = "+".join("-".join(name.split()) for name in names)
        safe = "".join(c if c.isalnum() or c in "-+_." else "-" for c in words)[:60]
        path = PurePath(self.checkpoint)
        return str(path.with_name(f"{path.stem}-{safe}.safetensors"))

    def _release(self) -> dict[str, str]:
        fields = ("author", "license", "contact", "purpose")
        return {name: text.strip() for name in fields if (text := getattr(self, name)).strip()}


def recipe_place(folders: Folders, recipe: str) -> str:
    """Return the name of a recipe that has one, or the path of one in the folders."""
    return recipe if recipe in erasepro.recipe_names() else str(folders.to_read(recipe))


def load_recipes(folders: Folders, chosen: Sequence[str]) -> erasepro.Recipe:
    """Return one recipe with the concepts of all that were chosen.

    Raises UsageError or RecipeError, also for recipes that contradict each other.
    """
    places = [recipe_place(folders, recipe) for recipe in chosen]
    if len(places) > 1 and (odd := next((place for place in places if "," in place), None)):
        raise RecipeError(f"{odd}: a comma stands between recipes; give the file another name")
    return erasepro.load_recipe(",".join(places))
