"""``erasepro-convert inspect FILE…``: what files are, and whether they would be converted."""

import json
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.location import any_file
from erasepro_convert.cli.output_options import json_option
from erasepro_convert.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


@click.command("inspect")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=any_file)
@click.option(
    "--hash", "hashes", is_flag=True, help="Read all of each file for SHA-256, AutoV2 and AutoV3."
)
@json_option("a list")
def inspect_command(files: tuple["Location", ...], hashes: bool, as_json: bool) -> None:
    """Say what files or diffusers folders are, and whether they would be converted.

    Shows variant and evidence, tensors by part and type, EMA and other copies that would be left
    out, metadata, hashes, and the names in a pickle.  Nothing in a file is run, and tensors are not
    read, so that values that are not finite are not found.  Exit code 4 if any would be refused.
    """
    from dataclasses import asdict

    from erasepro_convert.cli.tables import inspection_table
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.inspection import inspect
    from erasepro_convert.storage.listing import exists
    from erasepro_convert.storage.location import redacted

    missing = [redacted(file) for file in files if not exists(file)]
    if missing:
        raise UsageError(f"{', '.join(missing)}: there is no such file")
    terminal = Terminal(quiet=False, to_stderr=as_json)
    found = []
    for file in files:
        found.append(inspect(file, hashes=hashes))
        terminal.say(redacted(file), style="bold")
        terminal.show(inspection_table(found[-1]))
    if as_json:
        click.echo(json.dumps([asdict(i) for i in found], indent=2, ensure_ascii=False))
    if refused := [inspection.path for inspection in found if inspection.refused]:
        raise CheckpointError(f"{len(refused)} of {len(found)} would be refused")
