"""The options of a conversion, for every command that converts."""

from pathlib import Path

import click

from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import all_of
from erasepro_convert.runtime.dtypes import DTYPE_OPTIONS

signing_options = all_of(
    click.option(
        "--sign",
        metavar="KEY",
        type=click.Path(path_type=Path),
        help="Sign what is written with this private key (EC on P-256, P-384 or P-521; PEM).",
    ),
    click.option(
        "--certificate",
        metavar="CERT",
        type=click.Path(path_type=Path),
        help="The certificate that KEY belongs to (PEM).",
    ),
    click.option(
        "--chain",
        metavar="CERT",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A certificate above it, up to the root; can be given several times.",
    ),
)

"""The options of a signature."""

conversion_options = all_of(
    click.option(
        "--dtype",
        type=click.Choice(list(DTYPE_OPTIONS)),
        help="Store every floating tensor in this type.  [default: as in the input]",
    ),
    click.option(
        "--ema",
        type=click.Choice(["drop", "convert", "use"]),
        default="drop",
        show_default=True,
        help="An EMA copy of the U-Net: leave it out, erase from it too and keep it, or take it "
        "as the U-Net.",
    ),
    click.option(
        "--clip-skip",
        type=click.IntRange(1, 2),
        help="How UIs feed this U-Net: 1, the last text layer, or 2, the one before.  [default: "
        "the recipe's, and what the metadata of IN says]",
    ),
    click.option(
        "--text-encoder",
        metavar="FILE",
        type=location,
        help="Where the text encoder comes from if IN has none.",
    ),
    click.option(
        "--embed-manifest",
        is_flag=True,
        help="Carry base, recipe and measures in OUT's metadata, for a file that is found alone.",
    ),
    click.option(
        "--autov3",
        is_flag=True,
        help="Put the AutoV3 of IN and OUT into the manifest too, for one more pass of SHA-256.",
    ),
    signing_options,
    click.option("--private", is_flag=True, help="Keep the recipe's words out of OUT's metadata."),
)
"""The options of a conversion, under the names of ``Options``."""

release_option = click.option(
    "--release",
    metavar="KEY=TEXT",
    multiple=True,
    help="A statement on the release (title, author, license, purpose, contact, ...), as in the "
    "recipe's release section; can be given several times.",
)
