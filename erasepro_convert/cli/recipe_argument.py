"""The recipe on the command line: by path, by name, or as words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_recipe_first
from erasepro_convert.cli.output_options import Command, all_of
from erasepro_convert.library import recipe_files
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

if TYPE_CHECKING:
    from erasepro_convert.recipe import Recipe

words_options = all_of(
    click.option(
        "--target",
        "targets",
        metavar="WORDS",
        multiple=True,
        help="Words to erase, in place of RECIPE; can be given several times.",
    ),
    click.option(
        "--anchor",
        "anchors",
        metavar="WORDS",
        multiple=True,
        help="What they become: once for all --target, or once for each.",
    ),
)
"""The options that stand in for RECIPE, as ``targets`` and ``anchors``."""


def recipe_argument(command: Command) -> Command:
    """Add RECIPE, as a tuple, and the options that stand in for it.

    The other arguments of the command each take one word, so what is left over in front of them is
    the recipe: one word, none, or too many.
    """
    argument = click.argument(
        "recipe", metavar="RECIPE", nargs=-1, shell_complete=complete_recipe_first
    )
    return argument(words_options(command))


def words_as_options(targets: Sequence[str], anchors: Sequence[str]) -> tuple[str, ...]:
    """Return the options that stand in for RECIPE, to be given again."""
    both = (("--target", targets), ("--anchor", anchors))
    return tuple(part for option, given in both for words in given for part in (option, words))


def read_recipe(
    given: Sequence[str], targets: Sequence[str], anchors: Sequence[str]
) -> "tuple[Recipe, tuple[Path, ...]]":
    """Return the recipe that is asked for, and the files that it was read from.

    Raises click's UsageError where there is no recipe, or more than one; RecipeError and UsageError
    as ``load_recipe`` does.
    """
    if len(given) > 1:
        raise click.UsageError(
            "Got unexpected extra argument: RECIPE is one word; join several recipes with commas"
        )
    if given and (targets or anchors):
        raise click.UsageError(
            f"{quoted(given[0])} stands in RECIPE's place, but --target is given: leave out one of "
            "the two, and put quotes around words that belong together"
        )
    if not (given or targets or anchors):
        raise click.UsageError(
            "Missing argument: nothing says what to erase; name a recipe, or give --target and "
            "--anchor"
        )
    if given and given[0].lower().endswith(CHECKPOINT_SUFFIXES):
        raise click.UsageError(
            f"{quoted(given[0])} is a checkpoint by its name, and a recipe goes here: a .yaml "
            "file, a name, or several with commas",
            click.get_current_context(),
        )
    from erasepro_convert.recipe import load_recipe, recipe_from_words

    if not given:
        return recipe_from_words(targets, anchors), ()
    return load_recipe(given[0]), recipe_files(given[0])
