"""``erasepro-convert RECIPE IN OUT``: the main command."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasepro_convert.cli.location import path as location
from erasepro_convert.dtypes import OPTIONS
from erasepro_convert.errors import LimitError

if TYPE_CHECKING:
    from erasepro_convert.storage import Location


@click.command("convert")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("source", metavar="IN", type=location)
@click.argument("target", metavar="OUT")
@click.option(
    "--dtype",
    type=click.Choice(list(OPTIONS)),
    help="Store every floating tensor in this type.  [default: as in the input]",
)
@click.option(
    "--ema",
    type=click.Choice(["drop", "convert", "use"]),
    default="drop",
    show_default=True,
    help="An EMA copy of the U-Net: leave it out, erase from it too and keep it, or take it as "
    "the U-Net.",
)
@click.option(
    "--clip-skip",
    type=click.IntRange(1, 2),
    help="How UIs feed this U-Net: 1, the last text layer, or 2, the one before.  [default: the "
    "recipe's, and what the metadata of IN says]",
)
@click.option(
    "--text-encoder",
    metavar="FILE",
    type=location,
    help="Where the text encoder comes from if IN has none.",
)
@click.option("--tune", is_flag=True, help="Search for the settings that suit IN best.")
@click.option(
    "--embed-manifest",
    is_flag=True,
    help="Carry base, recipe and measures in OUT's metadata, for a file that is found alone.",
)
@click.option(
    "--sign",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="Sign OUT and its manifest with this private key (EC, PEM).",
)
@click.option(
    "--certificate",
    metavar="CERT",
    type=click.Path(path_type=Path),
    help="The certificate that KEY belongs to (PEM).",
)
@click.option(
    "--chain",
    metavar="CERT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A certificate above it, up to the root; can be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Do everything but write.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--private", is_flag=True, help="Keep the recipe's words out of OUT's metadata.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest to standard output.")
def convert_command(
    recipe: Path, source: "Location", target: str, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Erase the concepts of RECIPE from the Stable Diffusion 1.x checkpoint IN.

    Writes the complete checkpoint OUT (.safetensors) and, beside it, OUT's manifest; where OUT
    ends in a slash, a diffusers folder with the manifest in it.  IN is a .safetensors, .ckpt or .pt
    file or a diffusers folder; nothing inside it is ever run.  Either can be a URL (s3://, gs://,
    https:// for IN alone, …); of IN only what is needed travels.

    Exit codes: 0 done, 1 unexpected error, 2 wrong usage or recipe, 3 the result does not hold,
    4 IN refused, 130 interrupted.  Unless the code is 0, nothing has been written.
    """
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.recipe import load_recipe

    loaded = load_recipe(recipe)  # before the slow imports: mistakes show at once
    from erasepro_convert.convert import convert
    from erasepro_convert.manifest import manifest_path
    from erasepro_convert.options import Options
    from erasepro_convert.storage import locate
    from erasepro_convert.writer import uninterrupted

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    path, asked = locate(target), Options(folder=target.endswith("/"), **options)
    with terminal.progress() as progress:
        manifest = convert(loaded, source, path, asked, progress)
    with uninterrupted():  # an interrupt from here on would claim that nothing was written
        terminal.summary(manifest, path, manifest_path(path, folder=asked.folder))
        if as_json:
            click.echo(manifest.to_json(), nl=False)
    if manifest.exceeded:
        raise LimitError("the result does not hold; nothing was written")
