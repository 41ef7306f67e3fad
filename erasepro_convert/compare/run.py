"""A comparison: each method converts and is evaluated, and one table shows all methods."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from erasepro_convert.compare.columns import Column, columns
from erasepro_convert.compare.conversion import Cost, convert_measured
from erasepro_convert.compare.variants import recipe_for_method
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.evaluate.image_store import ImageStore
from erasepro_convert.evaluate.judges import AvailableJudges
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.run import Evaluation, evaluate
from erasepro_convert.evaluate.session import Session
from erasepro_convert.evaluate.settings import require_judged_size
from erasepro_convert.images.open_model import OpenModel
from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.probing.limits import exceeded
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.version import __version__


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison, by method; ``failed`` has the reason of each that failed.

    ``exceeded`` lists the recipe's limits that a result exceeds.  ``convert`` would refuse such a
    result; a comparison only reports it.
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
        """Return the table and each method's evaluation, for JSON."""
        data = {name: value for name, value in vars(self).items() if name != "evaluations"}
        return data | {
            "columns": [asdict(column) for column in self.columns],
            "costs": {method: asdict(cost) for method, cost in self.costs.items()},
            "evaluations": {m: evaluation.to_data() for m, evaluation in self.evaluations.items()},
        }


def compare(
    recipe: Recipe,
    base: OpenModel,
    methods: Sequence[str],
    folder: Path,
    judges: AvailableJudges,
    store: ImageStore,
    progress: Progress,
    *,
    user_prompts: Sequence[EvalPrompt] = (),
    seeds: int | None = None,
) -> Comparison:
    """Convert ``base`` by each method into ``folder``, and evaluate all on the same seeds.

    The first method is the reference that others are compared with.  ``user_prompts`` and
    ``seeds`` take precedence over the recipe's.

    Raises CheckpointError for a base that makes no pictures, UsageError for a picture size that
    the model's judge does not see, and UsageError where every method failed.
    """
    require_judged_size(recipe.evaluate, base.architecture)  # before hours of training
    folder.mkdir(parents=True, exist_ok=True)
    costs: dict[str, Cost] = {}
    failed: dict[str, str] = {}
    beyond: dict[str, tuple[str, ...]] = {}
    evaluations: dict[str, Evaluation] = {}
    for method in methods:
        target = folder / f"{method}.safetensors"

        def report(stage: str, done: int, total: int) -> None:
            progress(f"{method}, {stage}", done, total)  # noqa: B023  # it is called at once

        try:
            method_recipe = recipe_for_method(recipe, method)
            costs[method] = convert_measured(method_recipe, base.path, target, report)
        except (UsageError, RecipeError, ValueError) as error:
            failed[method] = str(error)
            continue
        manifest = read_manifest(manifest_path(target))
        limits = recipe.limits
        if method_recipe.training:  # leak measures keys and values; training may edit other layers
            limits = limits.model_copy(update={"leak": None})
        checked = recipe.model_copy(update={"limits": limits})
        beyond[method] = exceeded(checked, manifest.probe, manifest.all_edits)
        session = Session.plan(
            recipe, base, OpenModel(target), store, user_prompts=user_prompts, seeds=seeds
        )
        evaluations[method] = evaluate(session, judges, report)
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
            columns({m: e.metrics for m, e in evaluations.items()}, next(iter(evaluations)))
        ),
        costs=costs,
        exceeded={method: lines for method, lines in beyond.items() if lines},
        failed=failed,
        warnings=first.warnings,
        missing=first.missing,
        evaluations=evaluations,
    )
