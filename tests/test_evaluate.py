"""Evaluation from recipe to table, on the demo model with few and coarse pictures."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from erasepro_convert import demo
from erasepro_convert.architecture import DEMO, architecture_of
from erasepro_convert.convert import convert
from erasepro_convert.evaluate import pictures
from erasepro_convert.evaluate.judges import find_judges
from erasepro_convert.evaluate.output import picture, to_csv, to_json
from erasepro_convert.evaluate.pictures import Album, Settings, digest_of, draw
from erasepro_convert.evaluate.run import Evaluation, evaluate, is_demo
from erasepro_convert.images.generate import generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.options import Options
from erasepro_convert.recipe import load_recipe
from tests.conftest import Cli

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' and transformers', of themselves

RECIPE = """
version: 1
name: snoopy
concepts: [{target: snoopy, anchor: dog}]
evaluate: {steps: 3, seeds: 2}
"""
SETTINGS = Settings(steps=3, guidance=4.0, size=64, sampler="dpm++")


def silent(*_: object) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, a recipe, and what it makes of it."""
    folder = tmp_path_factory.mktemp("evaluate")
    with demo.checkpoint() as shipped:
        shutil.copyfile(shipped, folder / "in.safetensors")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(folder / "recipe.yaml")
    convert(recipe, folder / "in.safetensors", folder / "out.safetensors", Options(), silent)
    return folder


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return run(folder)


def run(folder: Path, album: str = "pictures") -> Evaluation:
    recipe, base = load_recipe(folder / "recipe.yaml"), folder / "in.safetensors"
    found = find_judges(is_demo=is_demo(base))
    return evaluate(recipe, base, folder / "out.safetensors", found, Album(folder / album), silent)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs that are drawn from now on."""
    jobs: list[Any] = []

    def counted(pipeline: Any, known: Any, asked: Sequence[Any], *rest: Any) -> Any:
        jobs.extend(asked)
        return generate(pipeline, known, asked, *rest)

    monkeypatch.setattr(pictures, "generate", counted)
    return jobs


def test_the_papers_columns_with_counts_and_intervals(evaluation: Evaluation) -> None:
    by_name = {(f.judge, f.column): f for f in evaluation.figures}
    seen = by_name["demo judge", "T: target seen"]
    assert (seen.images, seen.prompts, seen.better, seen.concept) == (20, 10, "lower", "snoopy")
    assert seen.original
    assert seen.original.interval
    assert seen.erased.value <= seen.original.value
    columns = {column for _, column in by_name}
    assert {"KID A", "KID T", "KIDp T", "KID O", "KIDp O", "FID O"} <= columns
    assert {"T: seen where implied", "A: anchor seen", "O: seen as asked"} <= columns
    kid = by_name["KID and FID on demo features", "KIDp O"]
    assert kid.original
    assert kid.original.value == 0
    assert any("KID is mostly noise" in line for line in evaluation.warnings)
    assert any("--clip FOLDER" in line for line in evaluation.missing)


def test_a_run_that_ended_early_is_gone_on_with(
    folder: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = drawn(monkeypatch)
    gone = sorted((folder / "pictures").iterdir())[::20]
    for path in gone:
        path.unlink()
    assert len(gone) > 2
    again = run(folder)
    assert len(gone) <= len(jobs)
    assert to_json(again) == to_json(evaluation)


def test_the_same_seed_gives_the_same_table(folder: Path, evaluation: Evaluation) -> None:
    assert to_json(run(folder, "others")) == to_json(evaluation)


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: Any
) -> None:
    base, settings = folder / "in.safetensors", replace(SETTINGS, sampler=sampler)
    prompts, found = ["a dog", "a red car in the snow", "snoopy"], []
    for batch in (64, 1):
        known = replace(architecture_of(DEMO), batch=batch)
        with monkeypatch.context() as patch:
            patch.setattr(pictures, "load_pipeline", lambda path: (load_pipeline(path)[0], known))  # noqa: B023
            album = Album(tmp_path / str(batch))
            made = draw(base, digest_of(base), prompts, 2, album, settings, silent)
        found.append({key: Image.open(path).convert("RGB") for key, path in made.items()})
    for key, one_picture in found[0].items():
        pairs = zip(one_picture.tobytes(), found[1][key].tobytes(), strict=True)
        assert max(abs(one - other) for one, other in pairs) <= 1, key  # sums in another order


def test_settings_are_part_of_a_pictures_name(tmp_path: Path) -> None:
    album = Album(tmp_path)
    changes: list[dict[str, Any]] = [{}, {"steps": 4}, {"guidance": 5.0}, {"sampler": "ddpm"}]
    paths = {album.path("0", "a", 0, replace(SETTINGS, **change)) for change in changes}
    paths |= {album.path("1", "a", 0, SETTINGS), album.path("0", "b", 0, SETTINGS)}
    assert len(paths | {album.path("0", "a", 1, SETTINGS)}) == 7


def test_csv_and_picture(evaluation: Evaluation) -> None:
    rows = list(csv.DictReader(to_csv(evaluation).splitlines()))
    assert len(rows) == len(evaluation.figures)
    for row, figure in zip(rows, evaluation.figures, strict=True):
        assert (row["judge"], row["column"]) == (figure.judge, figure.column)
        assert float(row["erased"]) == figure.erased.value
    assert picture(evaluation).width > 2 * 96


def test_the_command_and_the_report(folder: Path, evaluation: Evaluation, cli: Cli) -> None:
    out, base = folder / "out.safetensors", folder / "in.safetensors"
    words = ("evaluate", folder / "recipe.yaml", out, "--base", base)
    ran = cli(*words, "--images", folder / "pictures")
    assert ran.code == 0, ran.err
    assert "T: target seen" in ran.out
    assert "give --clip FOLDER" in ran.out
    assert json.loads((folder / "out.evaluation.json").read_text()) == json.loads(
        to_json(evaluation)
    )
    assert cli("report", folder / "out.manifest.json").code == 0
    page = (folder / "out.html").read_text("utf-8")
    assert "Judged on pictures" in page
    assert "KIDp O" in page
    (folder / "out.evaluation.json").write_text(json.dumps({"erased_sha256": "0"}))
    ran = cli("report", folder / "out.manifest.json")
    assert ran.code == 2
    assert "of another checkpoint" in ran.err
    (folder / "out.evaluation.json").unlink()


def test_what_is_not_there(folder: Path, cli: Cli) -> None:
    ran = cli("evaluate", folder / "recipe.yaml", folder / "none", "--base", folder / "none")
    assert ran.code == 2
    assert "there is no such file" in ran.err
