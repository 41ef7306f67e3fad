"""``erasepro-convert evaluate``: judge pictures that the original and the erased model draw."""

from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.judging_options import judging_options
from erasepro_convert.cli.location import local_path
from erasepro_convert.cli.output_options import (
    chosen_outputs,
    force_option,
    json_option,
    out_option,
    quiet_option,
    write_outputs,
)
from erasepro_convert.cli.recipe_argument import read_recipe, recipe_argument
from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.evaluate.judges import AvailableJudges
    from erasepro_convert.evaluate.run import Evaluation
    from erasepro_convert.evaluate.session import Session

OUTPUTS = (".json", ".csv", ".png")


def _parse_shard(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Read I/N as two numbers; ``evaluate.drawing.shard`` checks their range."""
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise click.BadParameter("write it as 2/8")
    return int(number), int(count)


@click.command("evaluate", options_metavar="--base IN [OPTIONS]")
@recipe_argument
@click.argument("erased", metavar="OUT", type=local_path)
@click.option(
    "--base",
    metavar="IN",
    required=True,
    type=local_path,
    help="The original checkpoint.",
)
@judging_options
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where pictures are kept; existing ones are not drawn again.  [default: OUT.pictures]",
)
@click.option(
    "--dataset",
    "datasets",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Prompts that others published (I2P, COCO, EMMA, HUB, ...), as they are: a row with a "
    "seed is one picture.  Those of no target take the place of other prompts.",
)
@click.option(
    "--shard",
    metavar="I/N",
    callback=_parse_shard,
    help="Draw shard I of N of all pictures and judge none: for several machines that share "
    "--images.  When all shards are drawn, run without it to judge.",
)
@out_option(OUTPUTS, "OUT.evaluation.json, .csv and .png")
@force_option
@quiet_option
@json_option("the evaluation")
def evaluate_command(
    recipe: tuple[str, ...],
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    erased: Path,
    base: Path,
    prompts: Path | None,
    images: Path | None,
    seeds: int | None,
    clip: Path | None,
    inception: Path | None,
    datasets: tuple[Path, ...],
    shard: tuple[int, int] | None,
    out: tuple[Path, ...],
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw pictures with the original IN and with the erased OUT, and have them judged.

    Every metric has a 95% interval over prompts and seeds, and the difference between the two
    models over the same prompts and seeds.  The results are written to OUT.evaluation.json, .csv
    and .png, where report and card find them; the .png shows some of the pictures.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest.names_beside import DRAWN, EVALUATION
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries
    from erasepro_convert.storage.location import sibling

    if shard and (out or as_json):
        raise UsageError("--shard draws and has no results: --out and --json go without it")
    loaded, files = read_recipe(recipe, targets, anchors)
    for path in (erased, base):
        if not path.exists():
            raise UsageError(f"{path}: there is no such file")
    default = [sibling(erased, EVALUATION).with_suffix(suffix) for suffix in OUTPUTS]
    outputs = () if shard else chosen_outputs(out, default, OUTPUTS)
    inputs = Inputs(
        (*files, erased, base, prompts, loaded.evaluate.csv, clip, inception, *datasets)
    )
    require_outputs(outputs, inputs, force=force)
    silence_libraries()
    from erasepro_convert.evaluate.image_store import ImageStore
    from erasepro_convert.evaluate.judges import find_judges
    from erasepro_convert.evaluate.plan import read_prompts
    from erasepro_convert.evaluate.prompt_datasets import dataset_prompts
    from erasepro_convert.evaluate.session import Session
    from erasepro_convert.images.open_model import OpenModel

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    pictures = images or sibling(erased, DRAWN)
    original = OpenModel(base)
    judges = find_judges(is_demo=original.is_demo, clip=clip, inception=inception)
    session = Session.plan(
        loaded,
        original,
        OpenModel(erased),
        ImageStore(pictures),
        user_prompts=read_prompts(prompts) if prompts else (),
        dataset_prompts=chain.from_iterable(dataset_prompts(path, loaded) for path in datasets),
        seeds=seeds,
    )
    with reporting_interruption(*outputs, kept=[pictures]):
        if shard:
            _draw_shard(session, *shard, terminal)
        else:
            evaluation = _evaluate(session, judges, terminal)
            write_outputs(outputs, _contents(evaluation), inputs, terminal, as_json=as_json)


def _draw_shard(session: "Session", number: int, count: int, terminal: "Terminal") -> None:
    """Draw one of ``count`` shards, and say how many pictures it has."""
    from erasepro_convert.evaluate.session import draw_shard
    from erasepro_convert.runtime.wording import counted

    with terminal.steps() as progress:
        drawn = draw_shard(session, number, count, progress)
    pictures_are = counted(drawn, "picture is", "pictures are")
    terminal.say(f"shard {number}/{count}: its {pictures_are} there")


def _evaluate(session: "Session", judges: "AvailableJudges", terminal: "Terminal") -> "Evaluation":
    """Draw and judge the pictures, and print what the judges found."""
    from erasepro_convert.evaluate.run import evaluate

    for line in judges.missing:  # shown before drawing, which can take hours
        terminal.say(line)
    with terminal.steps() as progress:
        evaluation = evaluate(session, judges, progress)
    for table in evaluation_tables(evaluation):
        terminal.show(table)
    for line in worst_prompts(evaluation):
        terminal.say(line)
    for line in evaluation.warnings:
        terminal.say(f"warning: {line}")
    return evaluation


def _contents(evaluation: "Evaluation") -> dict[str, bytes]:
    """Return what each suffix of an output stands for."""
    from erasepro_convert.evaluate.output import draw_grid, to_csv, to_json
    from erasepro_convert.images.grid import to_png

    return {
        ".json": to_json(evaluation).encode(),
        ".csv": to_csv(evaluation).encode(),
        ".png": to_png(draw_grid({"erased": evaluation})),
    }


def evaluation_tables(evaluation: "Evaluation") -> Iterator["Table"]:
    """Give a table for each judge, with columns for the original, the erased model, the change."""
    from rich.table import Table

    from erasepro_convert.cli.terminal import cell
    from erasepro_convert.evaluate.results import ARROWS
    from erasepro_convert.runtime.figures import format_estimate

    for judge, metrics in groupby(evaluation.metrics, lambda metric: metric.judge):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(cell(judge))
        table.add_column("", no_wrap=True)  # which way is better
        for heading in ("original", "erased", "difference"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("images/prompts", justify="right", no_wrap=True)
        for metric in metrics:
            prefix = f"{metric.concept}: " if metric.concept else ""
            name = cell(f"{prefix}{metric.column}")
            sides = (metric.original, metric.erased, metric.difference)
            values = [format_estimate(side, 3, "\n[dim]{}…{}[/]") for side in sides]
            arrow = ARROWS[metric.better]
            table.add_row(name, arrow, *values, f"{metric.images}/{metric.prompts}")
        yield table


def worst_prompts(evaluation: "Evaluation") -> Iterator[str]:
    """Name the erased model's worst prompt for each metric that is not perfect."""
    for metric in evaluation.metrics:
        perfect = 1.0 if metric.better == "higher" else 0.0
        if metric.worst is not None and metric.worst_value not in (None, perfect):
            prefix = f"{metric.concept}, " if metric.concept else ""
            yield f"worst of {prefix}{metric.column}: {metric.worst_value:.2f} at {metric.worst}"
