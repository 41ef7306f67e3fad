"""What the user entered, and the recipe that it makes."""

from collections.abc import Mapping, Sequence
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

    def fields(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def recipe(self, folders: Folders) -> erasepro.Recipe:
        """Return the recipe that was chosen.  Raises UsageError or RecipeError."""
        chosen = [erasepro.load_recipe(folders.to_read(name)) for name in self.recipes]
        if not chosen and not self.pairs:
            raise RecipeError("choose a recipe, or add words to the list")
        data: dict[str, Any] = _together(chosen) if chosen else {"concepts": []}
        known = [(concept["target"], concept["anchor"]) for concept in data["concepts"]]
        added = [pair for pair in map(pair_of, self.pairs) if pair not in known]
        data["concepts"] = [*data["concepts"], *({"target": t, "anchor": a} for t, a in added)]
        data["name"] = "+".join([*(recipe.name for recipe in chosen), *(t for t, _ in added)])
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


def _together(recipes: Sequence[erasepro.Recipe]) -> dict[str, Any]:
    """Return one recipe's data with the concepts of all.

    Raises RecipeError for recipes that differ in another key.
    """
    each = [recipe.model_dump(mode="json") for recipe in recipes]
    for recipe, data in zip(recipes, each, strict=True):
        if differing := _differing(each[0], data):
            raise RecipeError(
                f"{recipes[0].name} and {recipe.name} cannot be erased together: "
                f"{differing} differs"
            )
    concepts: list[Any] = []
    for data in each:
        concepts += [concept for concept in data["concepts"] if concept not in concepts]
    return {**each[0], "concepts": concepts}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = {*one, *other} - {"name", "concepts"}
    return ", ".join(sorted(key for key in keys if one.get(key) != other.get(key)))
