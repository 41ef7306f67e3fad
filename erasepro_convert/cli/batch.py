"""``erasepro-convert batch``: convert many checkpoints by many recipes."""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasepro_convert.cli.completion import complete_files, complete_recipe_or_checkpoint
from erasepro_convert.cli.conversion_options import conversion_options
from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import json_option, quiet_option
from erasepro_convert.errors import BatchError, InterruptedRunError, StorageError, UsageError
from erasepro_convert.library import SUFFIXES, has_the_form_of_a_name
from erasepro_convert.runtime.memory import free_memory
from erasepro_convert.runtime.printable import quoted

if TYPE_CHECKING:
    from erasepro_convert.cli.batch_view import BatchView
    from erasepro_convert.storage.location import Location

STDIN = "<stdin>"
"""What click calls standard input where it is given as a list."""
MEMORY_PER_JOB = 1 << 30
"""The bytes that a conversion can take: docs/speed.md has the measurements."""
MEMORY_SHARE = 0.8
"""The share of the free memory that a batch takes unless the user says otherwise."""


UNSUCCESSFUL = (
    ("failed", 1, "failed"),
    ("exceeded", 3, "do not hold"),
    ("refused", 4, "were refused"),
)
"""Outcomes without an output, each with its exit code; the first that occurs decides the code."""


def size(text: str) -> int:
    """Read an amount of memory such as 8G or 512M in bytes; click's help shows this name.

    Raises BadParameter for any other text.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{quoted(text)} is no size such as 8G or 512M")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


@click.command("batch")
@click.argument(
    "given", metavar="RECIPE... IN...", nargs=-1, shell_complete=complete_recipe_or_checkpoint
)
@click.option(
    "--out",
    "out_dir",
    metavar="DIR",
    required=True,
    type=location,
    shell_complete=complete_files(),
    help="Where outputs, their manifests and the batch's record go.",
)
@click.option(
    "--records",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the record is kept while the batch runs, if DIR is a URL; a copy goes to DIR.",
)
@click.option(
    "--match",
    metavar="PATTERN",
    multiple=True,
    help="Names of the files that a folder stands for; can be given several times.  "
    "[default: *.safetensors, *.sft, *.ckpt, *.pt, *.pth, *.pt2, *.bin, *.pkl]",
)
@click.option(
    "--list",
    "listed",
    metavar="FILE",
    type=click.File(),
    help="More inputs, a line each; - reads them from standard input.",
)
@click.option(
    "--name",
    "template",
    metavar="TEMPLATE",
    help="The names of outputs: {folder}, {stem} and {suffix} of the input, {recipe}; it ends in "
    "/ for diffusers folders.  [default: {folder}/{stem}-{recipe}.safetensors]",
)
@click.option(
    "--jobs",
    "at_once",
    metavar="N",
    type=click.IntRange(1),
    help="Convert N files at once.  [default: as many as there are cores]",
)
@click.option(
    "--memory",
    type=size,
    help="Convert no more files at once than fit into this, at 1G each.  "
    "[default: 80% of the free memory]",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Convert on the dask cluster with this scheduler (tcp://host:8786), by default as many at "
    "once as its workers have threads.",
)
@conversion_options
@click.option("--force", is_flag=True, help="Replace outputs that no batch has written.")
@quiet_option
@json_option("the record of these jobs")
def batch_command(
    given: tuple[str, ...],
    out_dir: "Location",
    records: Path | None,
    match: tuple[str, ...],
    listed: Any,
    template: str | None,
    at_once: int | None,
    memory: int | None,
    scheduler: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Erase the concepts of each RECIPE from each checkpoint IN.

    RECIPE is a .yaml file or the name of a recipe, of which there may be several (those joined with
    commas are erased together); or a list of jobs, as a .yaml file with the key jobs.  IN is a
    checkpoint, a folder (with all folders below it) or a pattern.  The outcome of each file is
    added to DIR/batch.manifest.jsonl as soon as it is known, and DIR/batch.html shows all outcomes
    at the end.  If you run the batch again, it converts only files that are missing, failed, or
    have changed.

    Exit codes: 0 all done, 1 some failed, 2 wrong usage or recipe, 3 some results do not hold, 4
    some inputs refused (the first of 1, 3, 4 that applies), 130 interrupted.
    """
    if scheduler and memory is not None:
        raise UsageError("--memory is of this machine; with --scheduler, --jobs says how many")
    from erasepro_convert.batch.convert_batch import plan_batch
    from erasepro_convert.batch.inputs import MATCH
    from erasepro_convert.batch.jobs import NAME
    from erasepro_convert.batch.ledger_store import publish_records
    from erasepro_convert.cli.batch_view import BatchView
    from erasepro_convert.conversion.options import Options
    from erasepro_convert.storage.location import redacted

    recipes = [word for word in given if _is_recipe(word)]
    lines = filter(None, map(str.strip, listed or ()))
    plan = plan_batch(
        recipes,
        [*(word for word in given if word not in recipes), *lines],
        out_dir,
        Options(beside=(Path(listed.name),) if listed and listed.name != STDIN else (), **options),
        match=match or MATCH,
        template=template or NAME,
        records=records,
    )
    view = BatchView(plan.jobs, plan.passed_over, quiet=quiet, as_json=as_json)
    with (
        plan.open_ledger() as ledger,
        _executor(scheduler, out_dir, at_once, memory, view) as (open_executor, workers),
    ):
        batch = plan.batch(ledger, view)
        try:
            with view:
                batch.run(open_executor, workers)
        except KeyboardInterrupt:
            raise InterruptedRunError("run it again to do the rest") from None
        finally:
            try:
                publish_records(ledger, out_dir, plan.passed_over)
            except (OSError, StorageError) as error:
                click.echo(f"the records are not complete: {error}", err=True)
            view.print_summary(ledger.path.parent)
    if batch.disk_full:
        raise BatchError(f"there is no room left in {redacted(out_dir)}: run it again with more", 1)
    _require_done(view, len(plan.jobs))


def _require_done(view: "BatchView", total: int) -> None:
    """Raise BatchError where some jobs have no output, with the code of the first such outcome."""
    for outcome, code, text in UNSUCCESSFUL:
        if count := view.counts[outcome]:
            raise BatchError(f"{count} of {total} {text}", code)


def _is_recipe(given: str) -> bool:
    """Whether a word is a recipe, by its suffix or as a name; what exists otherwise is an input."""
    if given.lower().endswith(SUFFIXES):
        return True
    parts = given.split(",")
    return not Path(given).exists() and all(
        has_the_form_of_a_name(part) or part.lower().endswith(SUFFIXES) for part in parts
    )


@contextmanager
def _executor(
    scheduler: str | None,
    folder: "Location",
    at_once: int | None,
    memory: int | None,
    view: "BatchView",
) -> Iterator[tuple[Callable[[], Executor], int]]:
    """Give a function that opens an executor, and the number of jobs to run at once."""
    if scheduler:
        from erasepro_convert.batch.dask_cluster import connect

        with connect(scheduler, folder) as cluster:
            view.watch(cluster.progress)
            yield cluster.open, at_once or cluster.threads
        return
    from erasepro_convert.batch.process_pool import ProcessPool

    workers = worker_count(at_once, memory)

    def open_processes() -> Executor:
        processes = ProcessPool(workers)
        view.watch(processes.progress)
        return processes

    yield open_processes, workers


def worker_count(at_once: int | None, memory: int | None) -> int:
    """Return how many conversions run at once: as many as given, if the memory allows it."""
    allowed = memory if memory is not None else int(MEMORY_SHARE * free_memory())
    return max(1, min(at_once or os.cpu_count() or 1, allowed // MEMORY_PER_JOB))
