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
    write_outputs,
)
from erasepro_convert.cli.recipe_argument import read_recipe, recipe_argument
from erasepro_convert.cli.sampling_options import guidance_option, seeds_option, steps_option
from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from erasepro_convert.attacks.run import StressResult

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
    "--text-encoder",
    "text_encoders",
    metavar="FILE",
    type=existing_path,
    multiple=True,
    help="Another SD1.x checkpoint; swap-te puts its text encoder before OUT's U-Net.",
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
    text_encoders: tuple[Path, ...],
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
    from erasepro_convert.manifest.names_beside import STRESS
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries
    from erasepro_convert.storage.location import sibling

    chosen = _chosen(attacks, draw=draw)
    _require_use_of(text_encoders, chosen)
    loaded, files = read_recipe(recipe, targets, anchors)
    inputs = Inputs((*files, checkpoint, base, *text_encoders, clip, loaded.evaluate.csv))
    default = [sibling(checkpoint, STRESS).with_suffix(suffix) for suffix in OUTPUTS]
    outputs = chosen_outputs(out, default, OUTPUTS)
    require_outputs(outputs, inputs, force=force)
    silence_libraries()
    from erasepro_convert.attacks.case import Effort
    from erasepro_convert.attacks.model import LoadedModel
    from erasepro_convert.attacks.run import stress
    from erasepro_convert.evaluate.plan import plan_prompts

    original = LoadedModel(base)
    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    with reporting_interruption(*outputs, kept=[images] if images else []):
        with TemporaryDirectory() as folder, terminal.steps() as progress:
            gallery = None
            if draw:
                from erasepro_convert.cli.stress_gallery import find_detector, open_gallery

                detector = find_detector(loaded, base, clip, is_demo=original.is_demo)
                places = images or Path(folder)
                gallery = open_gallery(
                    original, detector, places, seeds, steps, guidance, terminal.say, progress
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
                [LoadedModel(file) for file in text_encoders],
            )
        terminal.show(stress_table(found.rows))
        terminal.say(DISTANCE)
        for line in found.warnings:
            terminal.say(line)
        write_outputs(outputs, _contents(found), inputs, terminal, as_json=as_json)


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


def _require_use_of(text_encoders: tuple[Path, ...], chosen: tuple[Attack, ...]) -> None:
    """Raise UsageError for text encoders that nothing tries, or that have the same file name."""
    if text_encoders and "swap-te" not in chosen:
        raise UsageError("--text-encoder is for the attack swap-te, which --attack leaves out")
    names = [file.name for file in text_encoders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--text-encoder {name}: there are two files of this name; rename one")


def _contents(found: "StressResult") -> dict[str, bytes]:
    """Return what each suffix of an output stands for."""
    from erasepro_convert.runtime.hashing import pretty_json

    return {".json": pretty_json(found.to_data()).encode(), ".csv": _to_csv(found).encode()}


def _to_csv(found: "StressResult") -> str:
    text = StringIO()
    lines = [row.cells() for row in found.rows]
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
