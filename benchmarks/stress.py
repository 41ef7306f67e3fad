"""Attacks on the demo model's erased files, method by method, for docs/stress.md.

``python -m benchmarks.stress`` measures what benchmarks/results/stress.csv does not have yet: a
line a task, method, concept and attack.  ``case`` numbers the lines of one attack, best word first
for ``prefix``.  A run of one method takes about ten minutes on one core; several processes may run
at once.  ``python -m benchmarks.figures`` puts the figures into the page.
"""

import argparse
import fcntl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Line, append, locked, read
from benchmarks.comparison_tasks import VARIED, recipe_of
from benchmarks.stress_tables import METHODS, RESULTS
from benchmarks.text_encoders import text_encoders
from erasepro_convert.attacks.case import Effort
from erasepro_convert.attacks.gallery import Gallery
from erasepro_convert.attacks.image_renderer import ImageRenderer
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.names import Attack
from erasepro_convert.attacks.run import ATTACKS, StressResult, stress
from erasepro_convert.compare.variants import recipe_for_method
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import checkpoint
from erasepro_convert.evaluate.image_store import ImageStore, Settings
from erasepro_convert.evaluate.judges.demo import DemoJudge
from erasepro_convert.evaluate.plan import plan_prompts
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.library_logging import silence_libraries
from erasepro_convert.runtime.progress import silent

PLACE = Path("build/stress")
TASKS = ("one", "style")
SEEDS = 2
TRIALS = {"lora": 3, "finetune": 3}
"""How often trainings are repeated that take minutes; others are 5 times."""
NO_LIMITS = {"limits": {"leak": None, "drift": None, "relative_update": None}}
KEY = ("task", "method", "concept", "attack", "case")
RATES = ("original", "erased", "recovered", "control")
COLUMNS = (
    *KEY, "how", *(f"distance_{name}" for name in ("erased", "original", "control")), "pictures",
    *(f"{name}{end}" for name in RATES for end in ("", "_low", "_high")),
)  # fmt: skip


def main() -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    args = parser.parse_args()
    silence_libraries()
    with checkpoint() as base:
        for task in args.tasks.split(","):
            for method in args.methods.split(","):
                with locked(f"stress-{task}-{method}", fcntl.LOCK_EX) as is_ours:
                    done = {line["attack"] for line in _lines_of(task, method)}
                    attacks = [attack for attack in args.attacks.split(",") if attack not in done]
                    if is_ours and attacks:
                        print(task, method, *attacks, flush=True)
                        for attack in attacks:
                            lines = list(measure(task, method, attack, base))
                            append(RESULTS, COLUMNS, [x for x in lines if x["attack"] not in done])
                            done |= {"none", attack}


def _lines_of(task: str, method: str) -> list[dict[str, str]]:
    return [line for line in read(RESULTS) if (line["task"], line["method"]) == (task, method)]


def measure(task: str, method: str, attack: Attack, base: Path) -> Iterator[Line]:
    """Convert by one method, and attack what comes of it in one way."""
    as_method, changes = VARIED.get(method, (method, {}))
    recipe = recipe_for_method(recipe_of(task), as_method).changed(**NO_LIMITS, **changes)
    erased = PLACE / f"{task}-{method}.safetensors"
    PLACE.mkdir(parents=True, exist_ok=True)
    if not erased.exists():
        convert(recipe, base, erased, Options(), silent)
    for line in _lines(_attacked(recipe, attack, base, erased)):
        yield {"task": task, "method": method, **line}


def _attacked(recipe: Recipe, attack: Attack, base: Path, erased: Path) -> StressResult:
    """Make an attack, with pictures."""
    original = LoadedModel(base)
    model = original.architecture
    settings = Settings(model.steps, model.guidance, model.size, "dpm++")
    renderer = ImageRenderer(model, settings, SEEDS, ImageStore(PLACE / "pictures"), print, silent)
    planned = plan_prompts(recipe, (), is_demo=True)
    encoders: list[LoadedModel] = []
    if attack == "swap-te":
        others = tuple(prompt.prompt for prompt in planned if prompt.role == "other")
        encoders = text_encoders(PLACE, original, recipe.concepts[0].target, others)
    return stress(
        recipe,
        original,
        LoadedModel(erased),
        planned,
        [attack],
        Gallery(renderer, DemoJudge(), settings, SEEDS),
        Effort(steps=100, seeds=TRIALS.get(attack, 5), candidates=1000),
        silent,
        encoders,
    )


def _lines(result: StressResult) -> Iterator[Line]:
    numbers: Counter[tuple[str, str]] = Counter()
    for row in result.rows:
        numbers[row.concept, row.attack] += 1
        cells = row.cells()
        kept = {name: cells[name] for name in COLUMNS if name in cells}
        yield {**kept, "case": numbers[row.concept, row.attack], "pictures": cells["images"]}


if __name__ == "__main__":
    main()
