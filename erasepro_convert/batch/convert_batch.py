"""Convert many checkpoints on this machine, for programs; and what any batch begins with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from erasepro_convert.batch.inputs import MATCH, PassedOver, find_inputs
from erasepro_convert.batch.jobs import (
    NAME,
    Job,
    NamedRecipe,
    pair_all,
    read_recipe_or_jobs,
    require_apart,
    require_distinct,
)
from erasepro_convert.batch.ledger import Entry, Ledger
from erasepro_convert.batch.ledger_store import open_ledger, publish_records
from erasepro_convert.batch.process_pool import ProcessPool
from erasepro_convert.batch.scheduler import Batch, BatchObserver
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.library import recipe_files
from erasepro_convert.manifest.signature import signer
from erasepro_convert.output.destinations import Inputs, is_caseless
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.storage.location import Location


def convert_batch(
    recipes: Sequence[Path | str],
    inputs: Sequence[Path | str],
    folder: Path | str,
    options: Options | None = None,
    *,
    at_once: int = 1,
    progress: Progress = silent,
    ended: Callable[[Entry], None] = lambda entry: None,
) -> tuple[Entry, ...]:
    """Convert each input by each recipe into a folder, ``at_once`` files at a time.

    Recipes are YAML files, among them files of jobs, or names; inputs are checkpoints, folders of
    checkpoints or patterns.  What an earlier batch has done in the folder is not done again.
    ``ended`` is called with the outcome of each file, and the outcomes are returned in this order.
    ``progress`` is called at least twice a second, with the stage ``batch`` and the number of
    files; what it raises ends the batch, and what was finished by then stays.  A file that is
    refused or fails is an outcome and no error.

    It raises what ``plan_batch`` does, and UsageError where there is no room left.
    """
    folder = Path(folder)
    plan = plan_batch(recipes, [str(place) for place in inputs], folder, options or Options())
    outcomes = _Outcomes(ended)
    with plan.open_ledger() as ledger:
        batch = plan.batch(ledger, outcomes)
        try:
            batch.run(
                partial(ProcessPool, at_once),
                at_once,
                lambda: progress("batch", len(outcomes.entries), len(plan.jobs)),
            )
        finally:
            publish_records(ledger, folder, plan.passed_over)
    if batch.disk_full:
        raise UsageError(f"{folder}: there is no room left; run the batch again with more")
    return tuple(outcomes.entries)


class _Outcomes:
    """Collects the outcomes of a batch's jobs."""

    def __init__(self, ended: Callable[[Entry], None]) -> None:
        self.entries: list[Entry] = []
        self._tell = ended

    def began(self, job: Job) -> None:
        """Do nothing: outcomes alone are told."""

    def ended(self, job: Job, entry: Entry, *, already_done: bool) -> None:
        """Keep and tell an outcome."""
        self.entries.append(entry)
        self._tell(entry)


@dataclass(frozen=True)
class BatchPlan:
    """The jobs of a batch, where their outputs go, and all that is read for them.

    ``records`` is where the ledger is kept where outputs go to a store; ``passed_over`` are files
    that were found and are not converted.
    """

    jobs: Sequence[Job]
    folder: Location
    records: Path | None
    options: Options
    inputs: Inputs
    passed_over: PassedOver

    @contextmanager
    def open_ledger(self) -> Iterator[Ledger]:
        """Open the ledger as ``ledger_store`` does, and look at the folder that it makes.

        Raises UsageError also where two outputs would be one in this folder.
        """
        with closing(open_ledger(self.folder, self.records)) as ledger:
            caseless = isinstance(self.folder, Path) and is_caseless(ledger.path)
            require_distinct(self.jobs, caseless=caseless)
            yield ledger

    def batch(self, ledger: Ledger, observer: BatchObserver) -> Batch:
        """Return the batch that does it."""
        return Batch(self.jobs, self.folder, ledger, self.options, self.inputs, observer)


def plan_batch(
    recipes: Sequence[Path | str],
    inputs: Sequence[str],
    folder: Location,
    options: Options,
    *,
    match: Sequence[str] = MATCH,
    template: str = NAME,
    records: Path | None = None,
) -> BatchPlan:
    """Pair each recipe with each input, and add the jobs of job files among the recipes.

    ``match`` has patterns for the files of folders, ``template`` gives outputs their names.

    Raises UsageError where there is nothing to do, for inputs and outputs that do not work out and
    for keys that cannot sign; RecipeError for a recipe that is none; OSError passes through.
    """
    read = [read_recipe_or_jobs(recipe, template) for recipe in recipes]
    named = [item for item in read if isinstance(item, NamedRecipe)]
    jobs = [job for item in read if not isinstance(item, NamedRecipe) for job in item]
    if not recipes or bool(named) != bool(inputs):
        raise UsageError("nothing to do: give recipes and checkpoints")
    found = find_inputs(inputs, match, folder)
    jobs += pair_all(named, found.inputs, template)
    require_distinct(jobs)
    files = (file for recipe in recipes for file in recipe_files(recipe))
    options = replace(options, beside=(*options.beside, *files))
    places = require_apart(jobs, folder, records, options)
    if options.sign:  # a mistake in the keys is reported now, not by every job
        signer(options.sign, options.certificate, options.chain)
    return BatchPlan(jobs, folder, records, options, places, found.passed_over)
