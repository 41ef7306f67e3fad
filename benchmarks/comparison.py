"""Every method on every task of the demo model, for docs/comparison.md.

Resumable: what is converted and drawn is kept.  Tasks may be shared among processes by --tasks; the
document is written when all are there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.comparison_tasks import RATES, SEEDS, STEPS, TASKS

GRID = "pictures.png"
PICTURED = "2 together"
"""The task whose pictures the document shows."""
WIDTH = 1800


@click.command()
@click.option("--tasks", help="Names with commas between them.  [default: all]")
@click.option("--seeds", default=SEEDS, show_default=True, help="Pictures of each prompt.")
@click.option("--solved", is_flag=True, help="Leave out methods that are trained.")
@click.option("--out", default="build/comparison", type=click.Path(path_type=Path))
def main(tasks: str | None, seeds: int, solved: bool, out: Path) -> None:
    """Run tasks that are not done yet; write docs/comparison.md when all are."""
    from erasepro_convert.compare.variants import METHODS, SOLVED
    from erasepro_convert.runtime.library_logging import silence_libraries

    silence_libraries()
    methods = SOLVED if solved else METHODS
    for task in tasks.split(",") if tasks else TASKS:
        if not _is_done(_folder(out, task), methods, _settings(task, seeds)):
            _run(task, methods, seeds, out)
    if all((_folder(out, task) / "figures.json").exists() for task in TASKS):
        from benchmarks.comparison_page import write

        texts = {task: (_folder(out, task) / "figures.json").read_text("utf-8") for task in TASKS}
        write({task: json.loads(text) for task, text in texts.items()}, seeds)
        _picture(_folder(out, PICTURED) / GRID)


def _folder(out: Path, task: str) -> Path:
    return out / task.replace(" ", "-")


def _picture(grid: Path) -> None:
    """Small enough for a page."""
    from PIL import Image

    with Image.open(grid) as whole:
        size = (WIDTH, round(whole.height * WIDTH / whole.width))
        small = whole.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.quantize(256).save("docs/comparison.png", optimize=True)


def _settings(task: str, seeds: int) -> dict[str, Any]:
    steps = STEPS * len(TASKS[task])
    training = {m: {"learning_rate": rate, "steps": steps} for m, rate in RATES.items()}
    return {"seeds": seeds, "training": training}


def _is_done(folder: Path, methods: Sequence[str], settings: dict[str, Any]) -> bool:
    path = folder / "figures.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text("utf-8"))
    made = {*found["figures"], *found["failed"]}
    return found["settings"] == settings and set(methods) <= made


def _run(task: str, methods: Sequence[str], seeds: int, out: Path) -> None:
    # Here, for a conversion's process imports this file, and its memory is measured.
    from erasepro_convert import demo
    from erasepro_convert.compare.run import compare
    from erasepro_convert.evaluate.image_store import ImageStore
    from erasepro_convert.evaluate.judges import find_judges
    from erasepro_convert.evaluate.output import draw_grid
    from erasepro_convert.images.open_model import OpenModel
    from erasepro_convert.recipe import Recipe

    pairs, folder = TASKS[task], _folder(out, task)
    concepts = [{"target": target, "anchor": anchor} for target, anchor in pairs]
    recipe = Recipe.model_validate({"version": 1, "name": task, "concepts": concepts})
    settings = _settings(task, seeds)
    last = ""

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if (now := what.partition(":")[0]) != last:
            last = now
            click.echo(f"{task}: {now}")

    with demo.checkpoint() as base:
        judges, store = find_judges(is_demo=True), ImageStore(out / "pictures")
        made = compare(recipe, OpenModel(base), methods, folder, judges, store, report, **settings)
    data = {
        "settings": settings,
        "figures": {m: [asdict(f) for f in e.metrics] for m, e in made.evaluations.items()},
        "costs": {method: asdict(cost) for method, cost in made.costs.items()},
        "failed": made.failed,
        "exceeded": made.exceeded,
    }
    draw_grid(made.evaluations).save(folder / GRID)
    (folder / "figures.json").write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    main()
