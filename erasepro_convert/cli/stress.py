"""``erasepro-convert stress RECIPE OUT --base IN``: try to bring erased concepts back."""

import csv
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from erasepro_convert.attacks.names import DESCRIPTIONS, ON_PICTURES, ON_TEXT, Attack
from erasepro_convert.cli.completion import complete_list
from erasepro_convert.cli.location import existing_path
from erasepro_convert.cli.output_options import (
    chosen_outputs,
    force_option,
    json_option,
    out_option,
    quiet_option,
)
from erasepro_convert.cli.recipe_argument import read_recipe, recipe_argument
from erasepro_convert.cli.sampling_options import guidance_option, seeds_option, steps_option
from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from erasepro_convert.attacks.detector import ConceptDetector
    from erasepro_convert.attacks.gallery import Gallery
    from erasepro_convert.attacks.model import LoadedModel
    from erasepro_convert.attacks.run import StressResult
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.output.destinations import Inputs
    from erasepro_convert.recipe import Recipe
    from erasepro_convert.runtime.progress import Progress

OUTPUTS = (".json", ".csv")
DISTANCE = "distance: 0 is the target as the original has it, 1 is as far as the anchor"


def _attacks_help() -> str:
    """Return what each attack does, for the end of the help."""
    paragraphs = []
    for heading, attacks in (("Attacks", ON_TEXT), ("With --draw only", ON_PICTURES)):
        lines = [f"{heading}:"]
        for name, text in attacks.items():
            lines += wrap(text, 78, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18)
        paragraphs.append("\n".join(("\b", *lines)))  # click leaves these lines as they are
    return "\n\n".join(paragraphs)


@click.command("stress", options_metavar="--base IN [OPTIONS]", epilog=_attacks_help())
@recipe_argument
@click.argument("checkpoint", metavar="OUT", type=existing_path)
@click.option(
    "--base",
    metavar="IN",
    required=True,
    type=existing_path,
    help="The checkpoint before erasure.",
)
@click.option(
    "--attack",
    "attacks",
    metavar="LIST",
    shell_complete=complete_list(lambda: DESCRIPTIONS),
    help="What to try, separated by commas.  [default: all; without --draw those on text]",
)
@click.option(
    "--draw",
    is_flag=True,
    help="Draw each attack with both models and judge the pictures; some attacks need it.",
)
@seeds_option
@steps_option
@guidance_option
@click.option(
    "--ti-steps", type=click.IntRange(1), default=100, show_default=True, help="Training steps."
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="How often each training and search is repeated, with other seeds; once without --draw.",
)
@click.option(
    "--words",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Words that the search for a prefix looks at.",
)
@click.option(
    "--clip",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="A local copy of openai/clip-vit-base-patch32, which tells targets from anchors.  "
    "[default: the demo model's judge]",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep pictures here, and make only those that are not there.",
)
@out_option(OUTPUTS, "OUT.stress.json and .csv")
@force_option
@quiet_option
@json_option("the results")
def stress_command(
    recipe: tuple[str, ...],
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    checkpoint: Path,
    base: Path,
    attacks: str | None,
    draw: bool,
    seeds: int,
    steps: int | None,
    guidance: float | None,
    ti_steps: int,
    trials: int,
    words: int,
    clip: Path | None,
    images: Path | None,
    out: tuple[Path, ...],
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Try to get RECIPE's targets back from OUT, and say how far that goes.

    distance says how near the text features of an attack come to the target's keys and values: 0
    is there, 1 is as far as the anchor.  It takes seconds, and no pictures.

    With --draw each attack is drawn with both models and judged: recovered = rate of the erased
    model under attack / rate of the original under none, with its 95 % interval; control is the
    same attack with something that was never trained.  It measures and sets no limit: the exit
    code is 0.

    The results are written to OUT.stress.json and .csv, where card and evidence find them.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.tables import stress_table
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries
    from erasepro_convert.storage.location import sibling

    chosen = _chosen(attacks, draw=draw)
    loaded, files = read_recipe(recipe, targets, anchors)
    inputs = Inputs((*files, checkpoint, base, clip, loaded.evaluate.csv))
    default = [sibling(checkpoint, f".stress{suffix}") for suffix in OUTPUTS]
    outputs = chosen_outputs(out, default, OUTPUTS)
    require_outputs(outputs, inputs, force=force)
    silence_libraries()
    from erasepro_convert.attacks.case import Effort
    from erasepro_convert.attacks.model import LoadedModel
    from erasepro_convert.attacks.run import stress
    from erasepro_convert.evaluate.plan import plan_prompts
    from erasepro_convert.runtime.signals import uninterrupted

    original = LoadedModel(base)
    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with reporting_interruption(*outputs, kept=[images] if images else []):
        with TemporaryDirectory() as folder, terminal.steps() as progress:
            gallery = None
            if draw:
                detector = _find_detector(loaded, base, clip, is_demo=original.is_demo)
                gallery = _gallery(
                    original,
                    detector,
                    images or Path(folder),
                    seeds,
                    steps,
                    guidance,
                    terminal.say,
                    progress,
                )
            found = stress(
                loaded,
                original,
                LoadedModel(checkpoint),
                plan_prompts(loaded, (), is_demo=original.is_demo),
                chosen,
                gallery,
                Effort(ti_steps, trials, words),
                progress,
            )
        terminal.show(stress_table(found.rows))
        terminal.say(DISTANCE)
        for line in found.warnings:
            terminal.say(line)
        with uninterrupted():
            _write(found, outputs, inputs, terminal, as_json=as_json)


def _chosen(given: str | None, *, draw: bool) -> tuple[Attack, ...]:
    """Read a list of attacks; None is all that can be made.  Raises UsageError for others."""
    possible = tuple(DESCRIPTIONS if draw else ON_TEXT)
    if given is None:
        return possible
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in DESCRIPTIONS:
            known = ", ".join(DESCRIPTIONS)
            raise UsageError(f"--attack {name}: unknown attack; known are {known}")
        if name not in possible:
            raise UsageError(f"--attack {name} is made of pictures: add --draw")
    return tuple(attack for attack in possible if attack in names)


def _gallery(
    original: "LoadedModel",
    detector: "ConceptDetector",
    folder: Path,
    seeds: int,
    steps: int | None,
    guidance: float | None,
    announce: "Callable[[str], None]",
    progress: "Progress",
) -> "Gallery":
    """Return what draws and judges, with the model's own settings where none are given."""
    from erasepro_convert.attacks.gallery import Gallery
    from erasepro_convert.attacks.image_renderer import ImageRenderer
    from erasepro_convert.evaluate.image_store import ImageStore, Settings

    model = original.architecture
    settings = Settings(
        model.steps if steps is None else steps,
        model.guidance if guidance is None else guidance,
        model.size,
        "dpm++",
    )
    renderer = ImageRenderer(model, settings, seeds, ImageStore(folder), announce, progress)
    return Gallery(renderer, detector, settings, seeds)


def _find_detector(
    recipe: "Recipe", base: Path, clip: Path | None, *, is_demo: bool
) -> "ConceptDetector":
    """Return CLIP if it was given, else the demo model's judge.

    Raises UsageError for another model without CLIP.
    """
    from erasepro_convert.attacks.zero_shot import ZeroShot
    from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
    from erasepro_convert.evaluate.judges.demo import DemoJudge

    if clip:
        return ZeroShot(ClipFeatures(clip), {c.target: c.anchor for c in recipe.concepts})
    if not is_demo:
        raise UsageError(
            f"{base.name}: there is no judge for its pictures; give --clip FOLDER, "
            "a local copy of openai/clip-vit-base-patch32"
        )
    return DemoJudge()


def _write(
    found: "StressResult",
    outputs: "Sequence[Path]",
    inputs: "Inputs",
    terminal: "Terminal",
    *,
    as_json: bool,
) -> None:
    """Write the results to each output, in the form that its suffix says."""
    from erasepro_convert.output.destinations import put_all
    from erasepro_convert.runtime.hashing import pretty_json

    contents = {".json": pretty_json(found.to_data()), ".csv": _to_csv(found)}
    put_all({output: contents[output.suffix].encode() for output in outputs}, inputs)
    terminal.say(f"wrote {', '.join(map(str, outputs))}")
    if as_json:
        click.echo(contents[".json"], nl=False)


def _to_csv(found: "StressResult") -> str:
    text = StringIO()
    lines = [row.cells() for row in found.rows]
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
