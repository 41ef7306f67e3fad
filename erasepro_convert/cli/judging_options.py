"""The options of an evaluation, for every command whose pictures are judged."""

from pathlib import Path

import click

from erasepro_convert.cli.output_options import all_of

judging_options = all_of(
    click.option(
        "--prompts",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Prompts as CSV: concept, anchor, role (target, implied, anchor, other), prompt, "
        "prompt_id.  [default: the recipe's, else shipped ones]",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        help="Pictures of each prompt.  [default: the recipe's evaluate.seeds]",
    ),
    click.option(
        "--clip",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        help="A local copy of openai/clip-vit-base-patch32, for CLIP scores and distances.",
    ),
    click.option(
        "--inception",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A local copy of inception-2015-12-05.pt, for KID and FID as papers have them.",
    ),
)
