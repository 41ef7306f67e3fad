"""``erasepro-convert RECIPE IN OUT``: convert one checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasepro_convert.cli.announcement import announce
from erasepro_convert.cli.completion import complete_checkpoint
from erasepro_convert.cli.conversion_options import conversion_options, release_option
from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import json_option, quiet_option
from erasepro_convert.cli.recipe_argument import read_recipe, recipe_argument, words_as_options
from erasepro_convert.errors import LimitError

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


@click.command("convert")
@recipe_argument
@click.argument("source", metavar="IN", type=location)
@click.argument("target", metavar="OUT", shell_complete=complete_checkpoint)
@conversion_options
@release_option
@click.option(
    "--thumbnail",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A picture (PNG, JPEG or WebP) that UIs show for OUT: its middle square, at 256 pixels.",
)
@click.option(
    "--lora",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the same changes as a LoRA too, for use with IN (kohya's names, .safetensors).",
)
@click.option(
    "--lora-rank",
    metavar="N",
    type=click.IntRange(min=1),
    help="The largest rank in the LoRA.  [default: where nothing is lost, or the factors are as "
    "large as the matrix]",
)
@click.option("--dry-run", is_flag=True, help="Do everything but write.")
@click.option("--force", is_flag=True, help="Replace OUT, its manifest and the LoRA.")
@click.option("--details", is_flag=True, help="Print every measure, layer by layer.")
@quiet_option
@json_option("the manifest")
def convert_command(
    recipe: tuple[str, ...],
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    source: "Location",
    target: str,
    release: tuple[str, ...],
    details: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Erase the concepts of RECIPE from the Stable Diffusion 1.x checkpoint IN.

    RECIPE is a .yaml file, the name of a recipe (erasepro-convert recipes lists them), or several
    with commas: nudity,van-gogh.  Or leave it out and say what is erased: --target "Van Gogh"
    --anchor artist IN OUT.

    Writes the complete checkpoint OUT (.safetensors) and, beside it, OUT's manifest; where OUT
    ends in a slash, a diffusers folder with the manifest in it.  IN is a .safetensors, .ckpt or .pt
    file or a diffusers folder; nothing inside it is ever run.  Either can be a URL (s3://, gs://,
    https:// for IN alone, ...); only the needed parts of IN are transferred.

    Exit codes: 0 done, 1 unexpected error, 2 wrong usage or recipe, 3 the result does not hold,
    4 IN refused, 130 interrupted.  Unless the code is 0, nothing has been written, except for the
    state from which a trained method (esd-x, esd-u, ac) continues: OUT.training.safetensors.
    """
    announce(source, quiet=quiet, to_stderr=as_json)
    from erasepro_convert.recipe.release import with_statements

    # before the slow imports: mistakes show at once
    loaded, files = read_recipe(recipe, targets, anchors)
    if release:
        loaded = loaded.changed(release=with_statements(loaded.release, release))
    from erasepro_convert.cli.details import show_details
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.cli.time_left import expected_seconds
    from erasepro_convert.cli.verdict import Places, closing_lines, show_verdict
    from erasepro_convert.conversion.convert import convert
    from erasepro_convert.conversion.options import Options
    from erasepro_convert.manifest import manifest_path
    from erasepro_convert.manifest.verdict import verdict
    from erasepro_convert.runtime.signals import uninterrupted
    from erasepro_convert.storage.location import locate

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    output = locate(target)
    conversion = Options(folder=target.endswith("/"), beside=files, **options)
    manifest_place = manifest_path(output, folder=conversion.folder)
    kept = []
    if loaded.training and isinstance(output, Path):
        from erasepro_convert.train.resume import state_path

        kept = [state_path(output)]
    outputs = [manifest_place if conversion.folder else output]
    outputs += [conversion.lora] if conversion.lora else []
    with reporting_interruption(*outputs, kept=kept):
        try:
            trained = loaded.training is not None
            expected = expected_seconds(len(loaded.concepts), is_trained=trained)
            with terminal.progress(expected) as progress:
                manifest = convert(loaded, source, output, conversion, progress)
        except LimitError as error:
            if error.verdict:
                show_verdict(terminal, error.verdict)
            raise
        with uninterrupted():
            if details:
                show_details(terminal, manifest)
            found = verdict(manifest)
            words = words_as_options(targets, anchors)
            places = Places("".join(recipe), words, source, output, manifest_place, conversion.lora)
            show_verdict(terminal, found, closing_lines(terminal, manifest, found, places))
            if as_json:
                click.echo(manifest.to_json(), nl=False)
    if manifest.exceeded:
        raise LimitError("\n- ".join(("the result does not hold:", *manifest.exceeded)))
