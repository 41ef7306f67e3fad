"""``erasepro-convert demo [DIR]``: conversion and preview on the embedded model, in minutes."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from erasepro_convert.cli.terminal import Terminal


@click.command("demo")
@click.argument("folder", metavar="[DIR]", default="erasepro-demo", type=click.Path(path_type=Path))
@click.pass_context
def demo_command(ctx: click.Context, folder: Path) -> None:
    """Erase concepts from a small embedded model and draw what it makes before and after.

    Writes to DIR (default: erasepro-demo) the model, a recipe, the erased model with its manifest,
    the configuration with which diffusers opens either, and before-after.png.  Files of these
    names that lie in DIR are replaced.  Shows each command, so that you can repeat and change it.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal

    group = ctx.find_root().command
    terminal = Terminal(quiet=False, to_stderr=False)

    def run(*args: object) -> None:
        """Show a command, then run it in this process."""
        words = [str(arg) for arg in args]
        terminal.say(f"\n$ erasepro-convert {shlex.join(words)}", style="bold")
        assert isinstance(group, click.Group)
        group.main(words, prog_name="erasepro-convert", standalone_mode=False)

    with reporting_interruption(kept=[folder], advice="run it again to do all of it"):
        _demonstrate(folder, terminal, run)


def _demonstrate(folder: Path, terminal: "Terminal", run: Callable[..., None]) -> None:
    from erasepro_convert.demo import checkpoint, recipe_text
    from erasepro_convert.output.destinations import Inputs, put, require_outputs

    folder.mkdir(parents=True, exist_ok=True)
    model, erased, recipe = (
        folder / name for name in ("demo.safetensors", "erased.safetensors", "recipe.yaml")
    )
    with checkpoint() as shipped:
        inputs = Inputs([shipped])
        require_outputs((model, erased, recipe), inputs)
        put(model, shipped.read_bytes(), inputs)
    put(recipe, recipe_text().encode(), inputs)
    terminal.say(f"wrote {model} and {recipe}:")
    terminal.say(recipe_text().rstrip(), style="dim")
    run("--force", recipe, model, erased)
    picture = folder / "before-after.png"
    run("preview", erased, "--base", model, "--recipe", recipe, "--seeds", 4, "--png", picture)

    from erasepro_convert.output.diffusers_folder import write_configurations
    from erasepro_convert.sd1.architecture import DEMO, architecture_of

    write_configurations(architecture_of(DEMO), folder / "diffusers")
    terminal.say(
        f"\nLook at {picture}.  diffusers opens both models with "
        f"StableDiffusionPipeline.from_single_file(…, config={str(folder / 'diffusers')!r})."
    )
