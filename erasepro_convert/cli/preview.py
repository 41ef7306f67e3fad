"""``erasepro-convert preview OUT --base IN --recipe R``: draw pictures before and after."""

from pathlib import Path

import click

from erasepro_convert.cli.completion import complete_recipe
from erasepro_convert.cli.location import existing_path
from erasepro_convert.cli.output_options import (
    chosen_outputs,
    force_option,
    out_option,
    quiet_option,
    write_outputs,
)
from erasepro_convert.cli.recipe_argument import read_recipe, words_options
from erasepro_convert.cli.sampling_options import guidance_option, seeds_option, steps_option

OUTPUTS = (".png",)


@click.command("preview", options_metavar="--base IN --recipe RECIPE [OPTIONS]")
@click.argument(
    "checkpoints",
    metavar="OUT...",
    nargs=-1,
    required=True,
    type=existing_path,
)
@click.option(
    "--base",
    metavar="IN",
    required=True,
    type=existing_path,
    help="The checkpoint before erasure.",
)
@click.option(
    "--recipe",
    metavar="RECIPE",
    shell_complete=complete_recipe,
    help="What OUT was made with: a .yaml file or a name, or several with commas.",
)
@words_options
@click.option(
    "--prompt", "extra_prompts", multiple=True, help="A prompt to show beside the recipe's own."
)
@seeds_option
@steps_option
@guidance_option
@out_option(OUTPUTS, "OUT.before-after.png")
@force_option
@quiet_option
def preview_command(
    checkpoints: tuple[Path, ...],
    base: Path,
    recipe: str | None,
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    extra_prompts: tuple[str, ...],
    seeds: int,
    steps: int | None,
    guidance: float | None,
    out: tuple[Path, ...],
    force: bool,
    quiet: bool,
) -> None:
    """Draw a grid of pictures with a row for each prompt and a column for each checkpoint.

    The grid shows prompts of RECIPE's targets, of its anchors and of other things, drawn by --base
    and by each OUT with the same seeds.  CUDA is used when there is a device; on a CPU a picture
    of a full-size model takes minutes, and the time left is shown from the first step on.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest.names_beside import PICTURES
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries
    from erasepro_convert.storage.location import sibling

    loaded, files = read_recipe([recipe] if recipe else [], targets, anchors)
    outputs = chosen_outputs(out, [sibling(checkpoints[0], PICTURES)], OUTPUTS)
    inputs = Inputs((*files, base, *checkpoints))
    require_outputs(outputs, inputs, force=force)
    silence_libraries()
    from erasepro_convert.images.generate import Sampling
    from erasepro_convert.images.grid import to_png
    from erasepro_convert.images.preview import preview

    terminal = Terminal(quiet=quiet, to_stderr=False)
    with reporting_interruption(*outputs):
        with terminal.steps() as progress:
            grid = preview(
                loaded,
                [base, *checkpoints],
                extra_prompts=extra_prompts,
                seeds=seeds,
                sampling=lambda model: Sampling(
                    model.steps if steps is None else steps,
                    model.guidance if guidance is None else guidance,
                ),
                progress=progress,
            )
        write_outputs(outputs, {".png": to_png(grid.image())}, inputs, terminal)
