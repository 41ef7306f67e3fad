"""``erasepro-convert suggest CKPT WORD``: find words of the same meaning to a checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import json_option

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


@click.command("suggest")
@click.argument("checkpoint", metavar="CKPT", type=location)
@click.argument("word")
@click.option(
    "--anchor", metavar="WORDS", help="What they become: prints a recipe that erases WORD and them."
)
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, help="Words.")
@click.option("--quiet", is_flag=True, help="Print the result and nothing else.")
@json_option("words and cosines")
def suggest_command(
    checkpoint: "Location",
    word: str,
    anchor: str | None,
    count: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find words that mean the same as WORD to CKPT's U-Net, and with --anchor print a recipe.

    Compares WORD with every whole word of CLIP's vocabulary by the cross-attention's keys and
    values in this checkpoint.  The first time takes minutes on a full-size model; what was computed
    is kept in the user's cache folder, so that the next word takes seconds.  Judge the list
    yourself: words that merely go with WORD are in it, too.
    """
    from erasepro_convert.cli.tables import neighbour_table
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.probing.neighbours import suggest
    from erasepro_convert.recipe import recipe_from_words
    from erasepro_convert.runtime.printable import printable, quoted
    from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
    from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

    if word.lower().endswith(CHECKPOINT_SUFFIXES):
        raise click.BadParameter(
            f"{quoted(word)} is a checkpoint by its name; it comes before WORD",
            click.get_current_context(),
            param_hint="'WORD'",
        )
    if anchor is not None:
        recipe_from_words([word], [anchor])  # its mistakes are said before the vocabulary is read
    terminal = Terminal(quiet=quiet, to_stderr=True)
    source = open_sd1_checkpoint(checkpoint)
    with terminal.steps("words") as progress:
        found = suggest(
            source,
            word,
            count,
            lambda _, done, total: progress("reading the vocabulary", done, total),
        )
    nearest = () if found.is_unknown else found.nearest
    if found.is_unknown:
        click.echo(
            f"{printable(word)}: this checkpoint does not know it; what is nearest to it is so by "
            "chance",
            err=True,
        )
    table = neighbour_table(nearest)
    if as_json:
        click.echo(json.dumps([asdict(neighbour) for neighbour in nearest], indent=2))
    elif anchor is None and nearest:
        Terminal(quiet=False, to_stderr=False).show(table)
        terminal.say("for a recipe that erases them: --anchor WORDS, which they become")
    elif anchor is not None and nearest:
        terminal.show(table)
        click.echo(_recipe(word, [neighbour.word for neighbour in nearest], anchor), nl=False)


def _recipe(word: str, nearest: Sequence[str], anchor: str) -> str:
    """Return a recipe in YAML that erases a word and its nearest, but for those of the anchor."""
    from erasepro_convert.clip.tokenizer import tokenize
    from erasepro_convert.recipe.template import recipe_text

    kept = {*tokenize(anchor).words}
    others = (name for name in nearest if kept.isdisjoint(tokenize(name).words))
    return recipe_text([word, *others], anchor)
