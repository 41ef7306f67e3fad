"""``erasepro-convert probe RECIPE CKPT… [--base ORIGINAL [--dataset FILE]]``: measure any file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from erasepro_convert.cli.completion import complete_recipe_first
from erasepro_convert.cli.location import path as location
from erasepro_convert.cli.output_options import json_option, quiet_option
from erasepro_convert.cli.recipe_argument import read_recipe, words_options
from erasepro_convert.errors import LimitError, UsageError

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


@click.command("probe")
@click.argument(
    "given",
    metavar="RECIPE CKPT...",
    nargs=-1,
    required=True,
    shell_complete=complete_recipe_first,
)
@words_options
@click.option("--base", type=location, help="The checkpoint before erasure.")
@click.option(
    "--dataset",
    "datasets",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Prompts that others published (EMMA, HUB, I2P, ...), as they are, measured as well.",
)
@quiet_option
@json_option("the measures")
def probe_command(
    given: tuple[str, ...],
    targets: tuple[str, ...],
    anchors: tuple[str, ...],
    base: "Location | None",
    datasets: tuple[Path, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Measure how far checkpoints have lost RECIPE's targets, whoever made them.

    With --base: leak of each target and drift of other prompts against the original, with CKPT's
    own text encoder and with the original's; exit code 3 when a limit of RECIPE is exceeded.  What
    the original itself had lost before counts as held.  Reach of a target is how near any input can
    come to its keys and values: 0 is wholly, 1 no nearer than the anchor.

    Without --base: how far the target is from the anchor in CKPT itself, as a share of the spread
    of other prompts, which is near 0 where the target has become the anchor.

    With --dataset: how much of each target is left in the FILE's prompts about it (1: as the target
    in the original, 0: as its anchor, 0.5: neither), by how explicitly they express it, and drift
    of the FILE's other prompts.  No limit applies to these.
    """
    if datasets and not base:
        raise UsageError("--dataset needs --base, the checkpoint before erasure")
    split = 0 if targets or anchors else 1
    loaded, _ = read_recipe(given[:split], targets, anchors)
    context = click.get_current_context()
    checkpoints = [location(checkpoint, None, context) for checkpoint in given[split:]]
    if not checkpoints:
        raise click.UsageError("Missing argument 'CKPT...'", context)
    from erasepro_convert.cli.dataset_tables import dataset_tables
    from erasepro_convert.cli.tables import distance_table, probe_table
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.probing.dataset_probe import probe_prompts
    from erasepro_convert.probing.limits import exceeded
    from erasepro_convert.probing.probe import probe_checkpoint
    from erasepro_convert.probing.published_prompts import read_for_probe
    from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
    from erasepro_convert.storage.location import redacted

    terminal = Terminal(quiet=quiet, to_stderr=as_json)
    prompts = read_for_probe(datasets, loaded)
    original = open_sd1_checkpoint(base) if base else None
    beyond: list[str] = []
    records: dict[str, dict[str, object]] = {}
    for path in checkpoints:
        measured = open_sd1_checkpoint(path)
        record = probe_checkpoint(loaded, measured, original)
        records[redacted(path)] = record.model_dump(mode="json")
        terminal.say(redacted(path), style="bold")
        terminal.show(probe_table(record) if original else distance_table(record))
        if original and prompts:
            with terminal.steps("prompts") as progress:
                found = probe_prompts(prompts, loaded, measured, original, progress)
            records[redacted(path)]["datasets"] = [measure.to_data() for measure in found]
            for table in dataset_tables(found):
                terminal.show(table)
        if original:
            beyond += [f"{redacted(path)}: {line}" for line in exceeded(loaded, record, ())]
    if as_json:
        click.echo(json.dumps(records, indent=2, sort_keys=True, ensure_ascii=False))
    if beyond:
        raise LimitError("\n- ".join(("limits are exceeded:", *beyond)))
