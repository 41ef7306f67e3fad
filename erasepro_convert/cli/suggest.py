"""``erasepro-convert suggest CKPT WORD``: find words of the same meaning to a checkpoint."""

import json
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
@click.option("--anchor", default="", help="The anchor to put into the YAML.")
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, help="Words.")
@click.option("--quiet", is_flag=True, help="Print the result and nothing else.")
@json_option("words and cosines")
def suggest_command(
    checkpoint: "Location", word: str, anchor: str, count: int, quiet: bool, as_json: bool
) -> None:
    """Find words that mean the same as WORD to CKPT's U-Net, and print YAML to paste.

    Compares WORD with every whole word of CLIP's vocabulary by the cross-attention's keys and
    values in this checkpoint.  The first time takes minutes on a full-size model; what was computed
    is kept in the user's cache folder, so that the next word takes seconds.  Judge the list
    yourself: words that merely go with WORD are in it, too.
    """
    from erasepro_convert.cli.tables import neighbour_table
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.probing.neighbours import suggest
    from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint

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
            f"{word!r} is not told from many other words: this checkpoint does not know it",
            err=True,
        )
    terminal.show(neighbour_table(nearest))
    if as_json:
        click.echo(json.dumps([asdict(neighbour) for neighbour in nearest], indent=2))
        return
    click.echo("concepts:")
    for name in (word, *(neighbour.word for neighbour in nearest)):
        pair = {"target": name, "anchor": anchor}
        texts = ", ".join(f"{key}: {json.dumps(text)}" for key, text in pair.items())
        click.echo(f"  - {{{texts}}}")
