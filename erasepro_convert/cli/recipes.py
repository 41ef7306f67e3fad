"""``erasepro-convert recipes``: what recipes there are, by name."""

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_recipe
from erasepro_convert.cli.output_options import json_option
from erasepro_convert.errors import UsageError
from erasepro_convert.library import recipe_names
from erasepro_convert.runtime.printable import quoted, shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from erasepro_convert.recipe.described import DescribedRecipe

EDITOR_LINE = re.compile(r"\A# yaml-language-server:.*\n")
"""Where the schema lies as seen from the library; a copy has it elsewhere."""


class _RecipesGroup(click.Group):
    """Commands on the library; what is no command is taken for what is looked for, and told so."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name.  Raises UsageError for another word."""
        word = args[0]
        if not ctx.resilient_parsing and word not in self.commands and not word.startswith("-"):
            verb = "show" if word in recipe_names() else "search"
            raise click.UsageError(
                f"{quoted(word)} is no command; did you mean: recipes {verb} {shell_word(word)}",
                ctx,
            )
        return super().resolve_command(ctx, args)


@click.group("recipes", cls=_RecipesGroup, invoke_without_command=True)
@json_option("the list")
@click.pass_context
def recipes_command(ctx: click.Context, as_json: bool) -> None:
    """List the recipes that have a name: yours, then those that are shipped.

    A name stands in for a recipe's file in every command.  Yours are the .yaml files in the folders
    of ERASEPRO_RECIPES and in erasepro-convert/recipes in the user's configuration folder; they
    come before shipped ones of the same name.
    """
    if ctx.invoked_subcommand is None:
        from erasepro_convert.recipe.described import describe_recipes

        _print(describe_recipes(), as_json=as_json)


@recipes_command.command("search")
@click.argument("word")
@json_option("the list")
def search_command(word: str, as_json: bool) -> None:
    """List the recipes that have WORD in their name, description or targets."""
    from erasepro_convert.recipe.described import describe_recipes

    found = [one for one in describe_recipes() if one.contains(word)]
    if not found:
        raise UsageError(
            f"no recipe has {quoted(word)} in it; --target {shell_word(word)} --anchor WORDS "
            "erases it without one"
        )
    _print(found, as_json=as_json)


@recipes_command.command("show")
@click.argument("name", shell_complete=complete_recipe)
def show_command(name: str) -> None:
    """Print the recipe NAME as YAML, to copy and change."""
    from erasepro_convert.library import recipe_files
    from erasepro_convert.recipe.yaml_document import read_document, read_text

    for file in recipe_files(name):
        read_document(file)  # refuses what is no YAML
        click.echo(EDITOR_LINE.sub("", read_text(file)), nl=False)


def _print(found: "Iterable[DescribedRecipe]", *, as_json: bool) -> None:
    if as_json:
        records = [
            {
                "name": one.name,
                "folder": one.folder,
                "about": one.about,
                "targets": one.targets,
                "from": one.origin,
            }
            for one in found
        ]
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from erasepro_convert.cli.terminal import Terminal, cell
    from erasepro_convert.recipe.described import SHIPPED

    terminal = Terminal(quiet=False, to_stderr=False)
    for number, (place, group) in enumerate(groupby(found, lambda one: (one.origin, one.folder))):
        origin, folder = place
        heading = folder if origin == SHIPPED else f"{origin} {folder}".strip()
        if number:
            terminal.say("")
        terminal.say(heading, style="bold")
        table = Table(box=None, pad_edge=True, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for one in group:
            table.add_row(cell(one.name), cell(one.about))
        terminal.show(table)
