"""Write the tables of docs/recipes.md from the recipes: ``python -m tools.recipe_page``."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from erasepro_convert.library import SHIPPED_FOLDERS, shipped_root
from erasepro_convert.recipe import Recipe, load_recipe

PAGE = Path("docs/recipes.md")


def filled(page: str) -> str:
    """Return the page with the tables that the shipped recipes give."""
    tables = "\n\n".join(map(_table, SHIPPED_FOLDERS))
    between = re.compile(r"(?<=<!-- library -->\n).*(?=<!-- end -->)", re.DOTALL)
    return between.sub(lambda _: f"\n{tables}\n\n", page)


def _table(folder: str) -> str:
    rows = (
        _row(file.stem, load_recipe(file)) for file in sorted((shipped_root() / folder).iterdir())
    )
    head = [f"## {folder.capitalize()}", "", "| name | about | erases |", "|---|---|---|"]
    return "\n".join([*head, *rows])


def _row(name: str, recipe: Recipe) -> str:
    return f"| `{name}` | {recipe.about} | {'; '.join(_groups(recipe))} |"


def _groups(recipe: Recipe) -> Iterator[str]:
    for anchor, concepts in groupby(recipe.concepts, lambda concept: concept.anchor):
        yield f"{', '.join(concept.target for concept in concepts)} → {anchor}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), encoding="utf-8")
