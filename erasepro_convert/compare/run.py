"""A comparison: each method's conversion, its evaluation, and the table of all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost, converted
from erasepro_convert.compare.variants import variant
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.evaluate.image_store import ImageStore
from erasepro_convert.evaluate.judges import Found
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.run import Evaluation, evaluate
from erasepro_convert.evaluate.session import Session, architecture_in
from erasepro_convert.evaluate.settings import require_judged
from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.probing.limits import exceeded
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.version import __version__


@dataclass(frozen=True)
class Comparison:
    """What came of it, by method; ``failed`` has the reason for each that gave nothing.

    ``exceeded`` are limits of the recipe that a result is beyond, for which ``convert`` would
    refuse it; of a comparison they are no part.
    """

    tool: str
    recipe_sha256: str
    original_sha256: str
    reference: str
    columns: tuple[Column, ...]
    costs: Mapping[str, Cost]
    exceeded: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str]
    warnings: tuple[str, ...]
    missing: tuple[str, ...]
    evaluations: Mapping[str, Evaluation] = field(repr=False)

    def to_data(self) -> dict[str, object]:
        """For JSON: the table, and each method's evaluation."""
        data = {name: value for name, value in vars(self).items() if name != "evaluations"}
        return data | {
            "columns": [asdict(column) for column in self.columns],
            "costs": {method: asdict(cost) for method, cost in self.costs.items()},
            "evaluations": {m: evaluation.to_data() for m, evaluation in self.evaluations.items()},
        }


def compare(
    recipe: Recipe,
    base: Path,
    methods: Sequence[str],
    folder: Path,
    found: Found,
    album: ImageStore,
    progress: Progress,
    *,
    given: Sequence[EvalPrompt] = (),
    seeds: int | None = None,
    training: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Convert ``base`` by each method into ``folder``, and evaluate all on the same seeds.

    The first method is the reference that others are compared with.  ``training`` has settings of
    gradient methods where the recipe has none; ``given`` and ``seeds`` are as for an evaluation.
    Raises CheckpointError for a base that makes no pictures, and UsageError for pictures that no
    judge sees, and where no method gave anything.
    """
    require_judged(recipe.evaluate, architecture_in(base))  # before hours of training
    folder.mkdir(parents=True, exist_ok=True)
    costs: dict[str, Cost] = {}
    failed: dict[str, str] = {}
    beyond: dict[str, tuple[str, ...]] = {}
    evaluations: dict[str, Evaluation] = {}
    for method in methods:
        target = folder / f"{method}.safetensors"

        def report(what: str, done: int, total: int) -> None:
            progress(f"{method}, {what}", done, total)  # noqa: B023  # called in this turn

        try:
            mine = variant(recipe, method, training)
            costs[method] = converted(mine, base, target, report)
        except (UsageError, RecipeError, ValueError) as error:
            failed[method] = str(error)
            continue
        manifest = read_manifest(manifest_path(target))
        limits = recipe.limits
        if mine.training:  # leak looks at keys and values, and these change more or other things
            limits = limits.model_copy(update={"leak": None})
        held = recipe.model_copy(update={"limits": limits})
        beyond[method] = exceeded(held, manifest.probe, manifest.all_edits)
        session = Session.of(recipe, base, target, album, given=given, seeds=seeds)
        evaluations[method] = evaluate(session, found, report)
    if not evaluations:
        reasons = "\n- ".join(("no method gave anything:", *map(": ".join, failed.items())))
        raise UsageError(reasons)
    first = next(iter(evaluations.values()))
    return Comparison(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=first.original_sha256,
        reference=next(iter(evaluations)),
        columns=tuple(
            columns({m: e.figures for m, e in evaluations.items()}, next(iter(evaluations)))
        ),
        costs=costs,
        exceeded={method: lines for method, lines in beyond.items() if lines},
        failed=failed,
        warnings=first.warnings,
        missing=first.missing,
        evaluations=evaluations,
    )
