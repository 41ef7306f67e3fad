"""``erasepro-convert compare RECIPE IN``: one recipe by several methods."""

from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_list
from erasepro_convert.cli.judging_options import judging_options
from erasepro_convert.cli.location import local_path
from erasepro_convert.cli.output_options import force_option, json_option, quiet_option
from erasepro_convert.cli.recipe_argument import read_recipe, recipe_argument
from erasepro_convert.errors import UsageError
from erasepro_convert.runtime.printable import quoted

if TYPE_CHECKING:
    from rich.table import Table

    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.compare.columns import Cell, Column
    from erasepro_convert.compare.run import Comparison
    from erasepro_convert.output.destinations import Inputs

COLUMNS_PER_TABLE = 5
"""How many columns with intervals fit into 100 characters."""


def _method_names() -> tuple[str, ...]:
    from erasepro_convert.compare.variants import METHODS

    return METHODS


@click.command("compare")
@recipe_argument
@click.argument("base", metavar="IN", type=local_path)
@click.option(
    "--methods",
    metavar="LIST",
    shell_complete=complete_list(_method_names),
    help="Methods, separated by commas, or all; the first one is the reference.  "
    "[default: all that need no training]",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where checkpoints and tables go; existing checkpoints are not made again.  "
    "[default: IN.comparison]",
)
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where pictures are kept; existing ones are not drawn again.  "
    "[default: pictures in the folder of --out]",
)
@judging_options
@force_option
@quiet_option
@json_option("the comparison")
def compare_command(
    recipe: tuple[str, ...],
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    base: Path,
    methods: str | None,
    out: Path | None,
    images: Path | None,
    prompts: Path | None,
    seeds: int | None,
    clip: Path | None,
    inception: Path | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Erase RECIPE's concepts from IN by several methods, and judge all on the same seeds.

    Every metric has a 95% interval; a value in bold is better than every other method's by more
    than chance explains.  Each conversion runs in its own process, whose time and memory are
    measured.  DIR gets each method's checkpoint and manifest, and comparison.json, .csv, .md and
    .png.

    Methods: erasepro, erasepro-paper (the paper's settings), erasepro-modified,
    difference-projector, uce, null-space, speed, oce, double-projections, cure, trce; trained, and
    slow without a GPU: esd-x, esd-u, ac.
    """
    from erasepro_convert.cli.interruption import reporting_interruption
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.manifest.names_beside import COMPARISON, COST
    from erasepro_convert.output.destinations import Inputs, require_outputs
    from erasepro_convert.runtime.library_logging import silence_libraries
    from erasepro_convert.storage.location import sibling

    loaded, files = read_recipe(recipe, targets, anchors)
    if not base.exists():
        raise UsageError(f"{base}: there is no such file")
    selected = _select_methods(methods)
    folder = out or sibling(base, COMPARISON)
    inputs = Inputs((*files, base, prompts, loaded.evaluate.csv, clip, inception))
    outputs = {kind: folder / f"comparison.{kind}" for kind in ("json", "csv", "md", "png")}
    inputs.require_apart(*outputs.values(), *(folder / (m + COST) for m in selected))
    if folder.exists():
        require_outputs(outputs.values(), inputs, force=force)
    silence_libraries()
    from erasepro_convert.compare.run import compare
    from erasepro_convert.evaluate.image_store import ImageStore
    from erasepro_convert.evaluate.judges import find_judges
    from erasepro_convert.evaluate.plan import read_prompts
    from erasepro_convert.images.open_model import OpenModel

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    original = OpenModel(base)
    judges = find_judges(is_demo=original.is_demo, clip=clip, inception=inception)
    for line in judges.missing:  # shown before drawing, which can take hours
        terminal.say(line)
    store = ImageStore(images or folder / "pictures")
    with reporting_interruption(kept=[folder, *([images] if images else [])]):
        with terminal.steps() as progress:
            comparison = compare(
                loaded, original, selected, folder, judges, store, progress,
                user_prompts=read_prompts(prompts) if prompts else (), seeds=seeds,
            )  # fmt: skip
        _show(comparison, terminal)
        _write(comparison, folder, outputs, inputs, terminal, as_json=as_json)


def _select_methods(names: str | None) -> tuple[str, ...]:
    """Return the methods that ``names`` lists, each once; by default those without training."""
    from erasepro_convert.compare.variants import METHODS, SOLVED

    if not names:
        return SOLVED
    if names == "all":
        return METHODS
    selected = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for method in selected:
        if method not in METHODS:
            raise UsageError(f"--methods: {quoted(method)} is none of {', '.join(METHODS)}")
    return selected


def _show(comparison: "Comparison", terminal: "Terminal") -> None:
    """Print the tables, then the methods that failed or went beyond a limit, then warnings."""
    for table in comparison_tables(comparison):
        terminal.show(table)
    for method, lines in comparison.exceeded.items():
        for line in lines:
            terminal.say(f"{method}: beyond the recipe's limits: {line}")
    for method, reason in comparison.failed.items():
        terminal.say(f"{method} failed: {reason}")
    for line in comparison.warnings:
        terminal.say(f"warning: {line}")


def _write(
    comparison: "Comparison",
    folder: Path,
    outputs: Mapping[str, Path],
    inputs: "Inputs",
    terminal: "Terminal",
    *,
    as_json: bool,
) -> None:
    """Write a comparison to the output of each kind: json, csv, md and png."""
    from erasepro_convert.compare.output import to_csv, to_json, to_markdown
    from erasepro_convert.evaluate.output import draw_grid
    from erasepro_convert.images.grid import to_png
    from erasepro_convert.output.destinations import put_all
    from erasepro_convert.runtime.signals import uninterrupted

    contents = {
        "json": to_json(comparison).encode(),
        "csv": to_csv(comparison).encode(),
        "md": to_markdown(comparison).encode(),
        "png": to_png(draw_grid(comparison.evaluations)),
    }
    with uninterrupted():
        put_all({outputs[kind]: content for kind, content in contents.items()}, inputs)
        terminal.say(
            f"wrote {folder}/comparison.json, .csv, .md and .png, and each method's checkpoint"
        )
        if as_json:
            click.echo(contents["json"], nl=False)


def comparison_tables(comparison: "Comparison") -> Iterator["Table"]:
    """Give a table for each judge, with a row for each method, then a table of costs."""
    from rich.table import Table

    from erasepro_convert.cli.terminal import cell
    from erasepro_convert.compare.output import COSTS, cost_cells, format_estimate, table_columns
    from erasepro_convert.evaluate.results import ARROWS

    def format_cell(cell: "Cell | None") -> str:
        if cell is None:
            return "–"
        value = "[bold green]{}[/]" if cell.best else "{}"
        return format_estimate(cell.value, "\n[dim]{}…{}[/]", value)

    parts = ((judge, part) for judge, shown in table_columns(comparison) for part in _split(shown))
    for judge, columns in parts:
        table = Table(
            box=None, pad_edge=False, header_style="bold", title=cell(judge), title_justify="left"
        )
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(f"{ARROWS[column.better]} {cell(column.name)}", justify="right")
        values = [format_estimate(column.original, ends="") for column in columns]
        table.add_row("original", *values, style="dim")
        for method in comparison.evaluations:
            cells = (format_cell(column.cells.get(method)) for column in columns)
            table.add_row(method, *cells)
        yield table
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cost", no_wrap=True)
    for heading in COSTS:
        table.add_column(heading, justify="right")
    for method, cost in comparison.costs.items():
        table.add_row(method, *cost_cells(cost))
    yield table


def _split(columns: "list[Column]") -> Iterator["list[Column]"]:
    """Split columns evenly into tables that fit into a terminal."""
    count = ceil(len(columns) / COLUMNS_PER_TABLE)
    size = ceil(len(columns) / count)
    for start in range(0, len(columns), size):
        yield columns[start : start + size]
