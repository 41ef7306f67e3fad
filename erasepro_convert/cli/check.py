"""``erasepro-convert check RECIPE…``: what recipes would erase, or their mistakes."""

import json
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_recipe
from erasepro_convert.cli.output_options import json_option
from erasepro_convert.errors import EraseproError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from erasepro_convert.recipe import Recipe

LONGEST = 2000
"""The most characters of a line of targets."""


@click.command("check")
@click.argument(
    "given", metavar="RECIPE...", nargs=-1, required=True, shell_complete=complete_recipe
)
@json_option("the recipes with all defaults")
def check_command(given: tuple[str, ...], as_json: bool) -> None:
    """Say what each RECIPE would erase, without a checkpoint.

    RECIPE is a .yaml file, a name, or several with commas.  Mistakes are listed with file, line and
    key, and the exit code is 2.
    """
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.recipe import load_recipe

    loaded: dict[str, Recipe] = {}
    mistakes: list[str] = []
    for text in given:
        try:
            loaded[text] = load_recipe(text)
        except EraseproError as error:
            mistakes.append(str(error))
    if as_json:
        records = {text: recipe.model_dump(mode="json") for text, recipe in loaded.items()}
        click.echo(json.dumps(records, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        terminal = Terminal(quiet=False, to_stderr=False)
        for text, recipe in loaded.items():
            for line in _lines(text, recipe):
                terminal.say(line)
    if mistakes:
        raise RecipeError("\n".join(mistakes))


def _lines(text: str, recipe: "Recipe") -> "Iterator[str]":
    from erasepro_convert.recipe.methods import METHODS
    from erasepro_convert.runtime.printable import printable
    from erasepro_convert.runtime.wording import counted

    about = f" ({recipe.about})" if recipe.about else ""
    yield printable(f"{text}: {counted(len(recipe.concepts), 'concept')}{about}")
    by_anchor: dict[str, list[str]] = {}
    for concept in recipe.concepts:
        also = " and its synonyms" if concept.synonyms else ""
        by_anchor.setdefault(concept.anchor, []).append(concept.target + also)
    for anchor, targets in by_anchor.items():
        yield printable(f"  {', '.join(targets)} → {anchor or 'nothing'}", LONGEST)
    method = METHODS[recipe.method]
    layers = recipe.layers
    edited = [
        counted(len(part), noun)
        for part, noun in (
            (layers.text_encoder, "text-encoder layer"),
            (layers.unet, "U-Net block"),
        )
        if part
    ]
    yield f"  by {method.title}, in {' and '.join(edited)}"
    limits = {
        name: value for name, value in recipe.limits.model_dump().items() if value is not None
    }
    named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in limits.items())
    yield f"  must keep to: {named or 'no limit'}"
