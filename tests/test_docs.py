"""README and docs say what is true: links lead somewhere, examples are what the files hold."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import BaseModel

from benchmarks import comparison_page
from benchmarks.comparison import COSTS, HITS, ORIGINAL, read
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.evaluation import Evaluate
from erasepro_convert.recipe.methods import METHODS, SOLVED, TRAINED
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.release import Release
from erasepro_convert.recipe.sections import (
    Calibration,
    Concept,
    Layers,
    Limits,
    Probe,
    Retain,
)
from erasepro_convert.recipe.training import Training
from tests.conftest import Cli, WriteRecipe

PAGES = [
    *map(Path, ("README.md", "CONTRIBUTING.md", "SECURITY.md", "integrations/comfyui/README.md")),
    *sorted(Path("docs").glob("*.md")),
]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading, and the site too."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        linked = page.parent / target if target else page
        assert linked.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_the_readmes_example_is_the_shipped_recipe(write_recipe: WriteRecipe) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    assert load_recipe(write_recipe(example)).digest == load_recipe("van-gogh").digest


def test_the_readmes_targets_exist() -> None:
    makefile = Path("Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+)", PAGES[0].read_text(encoding="utf-8")):
        assert f"\n{target}:" in makefile


def test_every_recipe_key_is_explained() -> None:
    page = Path("docs/recipe.md").read_text(encoding="utf-8")
    parts: dict[str, type[BaseModel]] = {
        "layers": Layers,
        "retain": Retain,
        "calibration": Calibration,
        "probe": Probe,
        "limits": Limits,
        "release": Release,
        "evaluate": Evaluate,
    }
    keys = [name for name in Recipe.model_fields if name not in ("concepts", *parts)]
    keys += [f"concepts[].{name}" for name in Concept.model_fields]
    keys += [f"{part}.{name}" for part, model in parts.items() for name in model.model_fields]
    for key in keys:
        assert f"| `{key}` |" in page, key


def test_every_method_is_explained_as_the_registry_has_it(cli: Cli) -> None:
    """The page has a row for each method, and the command line names each one."""
    page = Path("docs/recipe.md").read_text(encoding="utf-8")
    for method in METHODS.values():
        keys = ", ".join(f"`{key}`" for key in sorted(method.keys))
        way = "trained" if method.is_trained else "solved"
        row = ("", f"`{method.name}`", method.title, method.paper, way, method.edits, keys, "")
        assert " | ".join(row).strip() in page, method.name
    said = " ".join(cli("compare", "--help").out.split())
    assert ", ".join(TRAINED) in said
    assert all(name in said for name in SOLVED)
    assert f"({', '.join(TRAINED)})" in " ".join(cli("--help").out.split())


def test_the_defaults_of_training_are_the_registrys() -> None:
    page = Path("docs/recipe.md").read_text(encoding="utf-8")
    for key in Training.model_fields:
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `training.{key}` |"))
        cells = [cell.strip().strip("`") for cell in line.split("|")[2:5]]
        for name, cell in zip(TRAINED, cells, strict=True):
            default = METHODS[name].defaults["training"].get(key, {"seed": 0}.get(key, "–"))
            assert (float(cell) if isinstance(default, int | float) else cell) == default


def test_the_comparisons_tables_are_those_of_its_counts() -> None:
    page = comparison_page.PAGE.read_text("utf-8")
    hits, costs = read(HITS), read(COSTS)
    tasks = comparison_page.tasks_of(*comparison_page.in_order(hits, costs))
    assert comparison_page.filled(page, tasks) == page
    for task in tasks:
        for column, cells in task.cells.items():
            if column != "anchor":  # before erasure the target is drawn
                assert cells[ORIGINAL].share.rate >= Fraction(9, 10), (task.name, column)
