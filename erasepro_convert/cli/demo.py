"""``erasepro-convert demo [DIR]``: conversion and preview on the embedded model, in minutes."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.output_options import force_option
from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from erasepro_convert.cli.terminal import Terminal


@click.command("demo")
@click.argument("folder", metavar="[DIR]", default="erasepro-demo", type=click.Path(path_type=Path))
@force_option
@click.pass_context
def demo_command(ctx: click.Context, folder: Path, force: bool) -> None:
    """Erase concepts from a small embedded model and draw what it makes before and after.

    Writes to DIR (default: erasepro-demo) the model, a recipe, the erased model with its manifest,
    the configuration with which diffusers opens either, and before-after.png.  Shows each command,
    so that you can repeat and change it.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal

    group = ctx.find_root().command
    terminal = Terminal(quiet=False, to_stderr=False)

    def run(*args: object) -> None:
        """Show a command, then run it in this process."""
        words = [str(arg) for arg in args]
        terminal.say("")
        terminal.say(f"$ erasepro-convert {shlex.join(words)}", style="bold")
        assert isinstance(group, click.Group)
        group.main(words, prog_name="erasepro-convert", standalone_mode=False)

    with reporting_interruption(kept=[folder], advice="run it again with --force to do all of it"):
        _demonstrate(folder, terminal, run, force=force)


def _demonstrate(
    folder: Path, terminal: "Terminal", run: Callable[..., None], *, force: bool
) -> None:
    """Write the demo's files into ``folder``, and run its commands by ``run``."""
    from erasepro_convert import demo
    from erasepro_convert.manifest import manifest_path
    from erasepro_convert.output.destinations import Inputs, put, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries

    silence_libraries()
    from erasepro_convert.output.diffusers_folder import configurations
    from erasepro_convert.sd1.architecture import DEMO
    from erasepro_convert.sd1.read_widths import VARIANTS

    model, erased = folder / "demo.safetensors", folder / "erased.safetensors"
    recipe, picture = folder / "recipe.yaml", folder / "before-after.png"
    config = folder / "diffusers"
    if config.exists() and not config.is_dir():
        raise UsageError(f"{config}: this is a file, and the demo writes a folder of this name")
    config_files = {
        config / name: content for name, content in configurations(DEMO, VARIANTS[4], {}).items()
    }
    for place in (model, *config_files):
        place.parent.mkdir(parents=True, exist_ok=True)
    with demo.checkpoint() as embedded_model:
        inputs = Inputs([embedded_model])
        places = (model, recipe, erased, manifest_path(erased), picture, *config_files)
        require_outputs(places, inputs, force=force)
        put(model, embedded_model.read_bytes(), inputs)
    put(recipe, demo.recipe_text().encode(), inputs)
    terminal.say(f"wrote {model} and {recipe}:")
    for line in demo.recipe_text().splitlines():
        terminal.say(line, style="dim")
    forced = ["--force"] if force else []
    run(recipe, model, erased, *forced)
    run(
        "preview", erased, "--base", model, "--recipe", recipe, "--seeds", 4, "--out", picture,
        *forced,
    )  # fmt: skip
    for place, content in config_files.items():
        put(place, content, inputs)
    terminal.say("")
    terminal.say(
        f"Look at {picture}.  diffusers opens both models with "
        f"StableDiffusionPipeline.from_single_file(…, config={str(config)!r})."
    )
