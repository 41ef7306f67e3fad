"""Convert many checkpoints on this machine, for programs."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from erasepro_convert.batch.inputs import MATCH, find_inputs
from erasepro_convert.batch.jobs import (
    NAME,
    Job,
    NamedRecipe,
    pair_all,
    require_apart,
    require_distinct,
)
from erasepro_convert.batch.ledger import Entry
from erasepro_convert.batch.ledger_store import open_ledger, publish_records
from erasepro_convert.batch.process_pool import ProcessPool
from erasepro_convert.batch.scheduler import Batch
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.library import recipe_files
from erasepro_convert.output.destinations import is_caseless
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.progress import Progress, silent


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

    Recipes are YAML files or names; inputs are checkpoints, folders of checkpoints or patterns.
    What an earlier batch has done in the folder is not done again.  ``ended`` is called with the
    outcome of each file, and the outcomes are returned in this order.  ``progress`` is called at
    least twice a second, with the stage ``batch`` and the number of files; what it raises ends the
    batch, and what was finished by then stays.  A file that is refused or fails is an outcome and
    no error.

    Raises UsageError for inputs and outputs that do not work out, RecipeError for a recipe that is
    none; OSError passes through.
    """
    folder, options = Path(folder), options or Options()
    found = find_inputs([str(place) for place in inputs], MATCH, folder)
    named = [_named(recipe) for recipe in recipes]
    jobs = pair_all(named, found.inputs, NAME)
    if not jobs:
        raise UsageError("nothing to do: a batch needs a recipe and a checkpoint")
    require_distinct(jobs)
    sources = require_apart(jobs, folder, None, options)
    outcomes = _Outcomes(ended)
    with closing(open_ledger(folder, None)) as ledger:
        require_distinct(jobs, caseless=is_caseless(ledger.path))
        batch = Batch(jobs, folder, ledger, options, sources, outcomes)
        try:
            batch.run(
                partial(ProcessPool, at_once),
                at_once,
                lambda: progress("batch", len(outcomes.entries), len(jobs)),
            )
        finally:
            publish_records(ledger, folder, found.passed_over)
    if batch.disk_full:
        raise UsageError(f"{folder}: there is no room left; run the batch again with more")
    return tuple(outcomes.entries)


def _named(recipe: Path | str) -> NamedRecipe:
    files = recipe_files(recipe)
    return NamedRecipe("+".join(file.stem for file in files), load_recipe(recipe), files)


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
