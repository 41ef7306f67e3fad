"""``erasepro-convert new [FILE]``: write a recipe from answers."""

from pathlib import Path

import click

from erasepro_convert.errors import UsageError
from erasepro_convert.library import SUFFIXES


@click.command("new")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="WORDS", help="What is erased.")
@click.option("--anchor", metavar="WORDS", help="What it becomes; an empty text for nothing.")
@click.option("--also", metavar="LIST", help="Other words for the target, separated by commas.")
@click.option("--name", help="The recipe's name.  [default: FILE's, or from the target]")
@click.option("--about", metavar="LINE", help="One line on what the recipe is for.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def new_command(
    file: Path | None,
    target: str | None,
    anchor: str | None,
    also: str | None,
    name: str | None,
    about: str | None,
    force: bool,
) -> None:
    """Write a recipe into FILE, by default NAME.yaml, and ask for what no option gives.

    With --target and --anchor nothing is asked.  The schema that editors check recipes with,
    recipe.schema.json, is written beside FILE where there is none.
    """
    is_complete = target is not None and anchor is not None
    if target is None:
        target = click.prompt("Words to erase (such as Van Gogh)")
    if anchor is None:
        anchor = _ask("What they become (such as artist; nothing: leave it empty)")
    if also is None:
        also = "" if is_complete else _ask("Other words for the same, separated by commas")
    from erasepro_convert.recipe.template import commented_recipe_text, name_from

    suggested = file.stem if file else name_from(target)
    if name is None:
        name = suggested if is_complete else click.prompt("Name", default=suggested)
    if about is None:
        about = "" if is_complete else _ask("What it is for, in one line")
    from erasepro_convert.output.destinations import Inputs, put_all, require_outputs
    from erasepro_convert.recipe.parse import parse_recipe
    from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_json
    from erasepro_convert.recipe.yaml_document import parse_document
    from erasepro_convert.runtime.printable import shell_word

    place = file or Path(f"{name_from(name)}.yaml")
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{place}: a recipe's name ends in .yaml")
    words = [target, *filter(None, (word.strip() for word in also.split(",")))]
    text = commented_recipe_text(name, about, words, anchor)
    parse_recipe(parse_document(text, place), place)  # what it refuses is never written
    inputs = Inputs(())
    require_outputs([place], inputs, force=force)
    schema = place.with_name(SCHEMA_FILE)
    has_schema = schema.exists()
    put_all(
        {place: text.encode()} | ({} if has_schema else {schema: schema_json().encode()}), inputs
    )
    click.echo(f"wrote {place}")
    if not has_schema:
        click.echo(f"wrote {schema}, which editors check recipes with")
    click.echo(f"next: erasepro-convert {shell_word(click.format_filename(place))} IN OUT")
    click.echo(
        "      erasepro-convert suggest IN WORD lists what else means the same to a checkpoint"
    )


def _ask(question: str) -> str:
    answer: str = click.prompt(question, default="", show_default=False)
    return answer
