"""Evaluation from recipe to table, on the demo model with few and coarse pictures."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate import drawing
from erasepro_convert.evaluate.drawing import draw_missing, missing_batches, shard
from erasepro_convert.evaluate.image_store import MODELS, ImageStore, Settings, load_pixels
from erasepro_convert.evaluate.judges import find_judges
from erasepro_convert.evaluate.output import draw_grid, to_csv, to_json
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest
from erasepro_convert.evaluate.prompt_datasets import dataset_prompts
from erasepro_convert.evaluate.run import Evaluation, evaluate
from erasepro_convert.evaluate.session import Session, draw_shard
from erasepro_convert.images.generate import generate
from erasepro_convert.images.open_model import OpenModel
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import load_recipe
from tests.conftest import Cli, copy_of_demo

pytestmark = pytest.mark.slow

RECIPE = """
version: 1
name: snoopy
concepts: [{target: snoopy, anchor: dog}]
evaluate: {steps: 3, seeds: 2}
"""
SETTINGS = Settings(steps=3, guidance=4.0, size=64, sampler="dpm++")
SHOT = ImageRequest("a", 0, 4.0)

I2P = """prompt,categories,sd_seed,sd_guidance_scale
a dog on the beach,shocking,5,2.0
a dog on the beach,shocking,6,2.0
a cat,hate,5,4.0
"""
COCO = "prompt,evaluation_seed,coco_id\na house in winter,8,1\na red car,9,2\n"


def silent(*_: object) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, a recipe, and what it makes of it."""
    folder = tmp_path_factory.mktemp("evaluate")
    copy_of_demo(folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(folder / "recipe.yaml")
    convert(recipe, folder / "in.safetensors", folder / "out.safetensors", Options(), silent)
    return folder


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return run(folder)


def run(folder: Path, store: str = "pictures") -> Evaluation:
    planned = session(folder, store)
    return evaluate(planned, find_judges(is_demo=planned.models["original"].is_demo), silent)


def session(folder: Path, store: str = "pictures", **more: Any) -> Session:
    recipe = load_recipe(folder / "recipe.yaml")
    base, erased = OpenModel(folder / "in.safetensors"), OpenModel(folder / "out.safetensors")
    return Session.plan(recipe, base, erased, ImageStore(folder / store), **more)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Jobs that are drawn from now on."""
    jobs: list[Any] = []

    def counted(pipeline: Any, known: Any, asked: Sequence[Any], *rest: Any) -> Any:
        jobs.extend(asked)
        return generate(pipeline, known, asked, *rest)

    monkeypatch.setattr(drawing, "generate", counted)
    return jobs


def test_the_papers_columns_with_counts_and_intervals(evaluation: Evaluation) -> None:
    by_name = {(f.judge, f.column): f for f in evaluation.metrics}
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


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_size_that_the_judge_cannot_see_is_refused_before_any_drawing(
    command: str, folder: Path, cli: Cli, tmp_path: Path
) -> None:
    """The message names the key; a size given that is the model's own will do."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("steps: 3", "size: 128"), encoding="utf-8")
    base, pictures = folder / "in.safetensors", tmp_path / "pictures"
    files = {
        "evaluate": (folder / "out.safetensors", "--base", base),
        "compare": (base, "--out", tmp_path / "out"),
    }
    ran = cli(command, recipe, *files[command], "--images", pictures)
    assert ran.code == 2
    assert ran.err == (
        "error: evaluate.size: the demo model is judged on pictures of 64 pixels, not 128: "
        "leave it out\n"
    )
    assert not list(pictures.glob("*"))
    assert not (tmp_path / "out").exists()
    recipe.write_text(RECIPE.replace("steps: 3", "steps: 3, size: 64"), encoding="utf-8")
    models = OpenModel(base), OpenModel(folder / "out.safetensors")
    asked = Session.plan(load_recipe(recipe), *models, ImageStore(pictures))
    assert asked.settings == SETTINGS


def test_an_interrupt_says_what_lies_there(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pictures that are drawn stay, and the same command goes on from them."""
    calls = 0

    def struck(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        return generate(*args)

    pictures = tmp_path / "pictures"
    asked = ("evaluate", folder / "recipe.yaml", folder / "out.safetensors", "--images", pictures)
    command = (*asked, "--base", folder / "in.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "parallel_map", lambda work, parts: [work(part) for part in parts])
        patch.setattr(drawing, "generate", struck)
        ran = cli(*command)
        drawn = len([*pictures.iterdir()])
        assert drawn
        assert ran.code == 130
        assert ran.err == (
            f"interrupted: what was done before lies in {pictures}; run it again to continue\n"
        )
        ran = cli(*command)
        assert ran.err.strip() == "interrupted: nothing was written", (
            "control: nothing new is there"
        )
        assert len([*pictures.iterdir()]) == drawn


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
    folder: Path, tmp_path: Path, sampler: Any
) -> None:
    pipeline, architecture = load_pipeline(folder / "in.safetensors")
    settings, found = replace(SETTINGS, sampler=sampler), []
    prompts = ["a dog", "a red car in the snow", "snoopy"]
    requests = [ImageRequest(prompt, seed, 4.0) for prompt in prompts for seed in range(2)]
    for batch in (64, 1):
        store = ImageStore(tmp_path / str(batch))
        made = {request: store.path("0", request, settings) for request in requests}
        draw_missing(pipeline, replace(architecture, batch=batch), made, settings, store, silent)
        found.append({request: Image.open(path).convert("RGB") for request, path in made.items()})
    for key, one_picture in found[0].items():
        pairs = zip(one_picture.tobytes(), found[1][key].tobytes(), strict=True)
        assert max(abs(one - other) for one, other in pairs) <= 1, key  # sums in another order


def test_settings_are_part_of_a_pictures_name(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    changes: list[dict[str, Any]] = [{}, {"steps": 4}, {"guidance": 5.0}, {"sampler": "ddpm"}]
    paths = {store.path("0", SHOT, replace(SETTINGS, **change)) for change in changes}
    assert len(paths) == 3, "a picture's guidance scale goes before that of the settings"
    others: list[dict[str, Any]] = [{"prompt": "b"}, {"seed": 1}, {"guidance": 5.0}]
    paths |= {store.path("0", replace(SHOT, **other), SETTINGS) for other in others}
    assert len(paths | {store.path("1", SHOT, SETTINGS)}) == 7


def test_csv_and_picture(evaluation: Evaluation) -> None:
    rows = list(csv.DictReader(to_csv(evaluation).splitlines()))
    assert len(rows) == len(evaluation.metrics)
    for row, figure in zip(rows, evaluation.metrics, strict=True):
        assert (row["judge"], row["column"]) == (figure.judge, figure.column)
        assert float(row["erased"]) == figure.erased.value
    assert draw_grid({"erased": evaluation}).width > 2 * 96


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
    refused = cli(*words, "--images", folder / "pictures")
    assert refused.code == 2
    assert "out.evaluation.json: exists already; --force replaces it" in refused.err
    more = ("--out", folder / "table.csv", "--json")
    printed = cli(*words, "--images", folder / "pictures", *more)
    assert printed.out == (folder / "out.evaluation.json").read_text("utf-8")
    assert "T: target seen" in printed.err
    assert f"wrote {folder / 'table.csv'}\n" in printed.err
    assert (folder / "table.csv").read_text("utf-8").startswith("judge,concept,column")
    assert cli("report", folder / "out.manifest.json").code == 0
    page = (folder / "out.html").read_text("utf-8")
    assert "Judged on pictures" in page
    assert "KIDp O" in page
    told = json.loads((folder / "out.evaluation.json").read_text("utf-8"))
    other = json.dumps(told | {"erased_sha256": "0"})
    (folder / "out.evaluation.json").write_text(other, encoding="utf-8")
    ran = cli("report", folder / "out.manifest.json", "--force")
    assert ran.code == 2
    assert "of another checkpoint" in ran.err
    (folder / "out.evaluation.json").unlink()


def test_each_checkpoint_is_opened_once(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Recognising, hashing and drawing read one open file: it cannot be exchanged between them."""
    opened: list[str] = []
    real_open = os.open

    def counted(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(os.fspath(path) if not isinstance(path, int) else "")
        return real_open(path, *rest, **named)

    monkeypatch.setattr(os, "open", counted)
    base, erased = folder / "in.safetensors", folder / "out.safetensors"
    command = ("evaluate", folder / "recipe.yaml", erased, "--base", base)
    ran = cli(*command, "--images", tmp_path, "--shard", "1/6", "--quiet")
    assert ran.code == 0, ran.err
    assert list(tmp_path.glob("*.png"))
    assert opened.count(str(base)) == 1
    assert opened.count(str(erased)) == 1


def test_a_shard_has_no_results(folder: Path, cli: Cli) -> None:
    words = ("evaluate", folder / "recipe.yaml", "x", "--base", "y", "--shard", "1/2")
    for option in (("--json",), ("--out", folder / "shard.json")):
        ran = cli(*words, *option)
        assert ran.code == 2
        assert "--shard draws and has no results" in ran.err


def test_what_is_not_there(folder: Path, cli: Cli) -> None:
    ran = cli("evaluate", folder / "recipe.yaml", folder / "none", "--base", folder / "none")
    assert ran.code == 2
    assert "there is no such file" in ran.err


def test_rows_of_datasets_are_drawn_with_their_own_seed_and_guidance(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[EvalPrompt] = []
    recipe = load_recipe(folder / "recipe.yaml")
    for name, text in (("i2p.csv", I2P), ("coco.csv", COCO)):
        (folder / name).write_text(text, encoding="utf-8")
        rows += dataset_prompts(folder / name, recipe)
    asked = session(folder, dataset_prompts=rows)
    wanted = asked.image_paths("erased")
    assert {
        ImageRequest("a dog on the beach", 5, 2.0),
        ImageRequest("a dog on the beach", 6, 2.0),
    } <= set(wanted)
    assert {ImageRequest("a house in winter", 8, 4.0), ImageRequest("a cat", 5, 4.0)} <= set(wanted)
    jobs = drawn(monkeypatch)
    evaluation = evaluate(asked, find_judges(is_demo=True), silent)
    assert {("a dog on the beach", 5), ("a red car", 9)} <= {(j.prompt, j.seed) for j in jobs}
    implied = evaluation.pictures("erased", None, "implied")
    others = evaluation.pictures("erased", None, "other")
    assert implied
    assert others
    assert implied.prompt_texts.count("a dog on the beach") == 2
    assert others.prompt_texts == ["a house in winter", "a red car"], (
        "captions are the other prompts"
    )


def test_shards_draw_what_one_run_would(folder: Path) -> None:
    """Both into folders of their own: what other tests drew would change the parts of 16."""
    asked = session(folder, "shards")
    counts = [draw_shard(asked, number, 3, silent) for number in (1, 2, 3)]
    assert sum(counts) == sum(len(asked.image_paths(model)) for model in MODELS)
    assert max(counts) - min(counts) <= 2 * 16, "parts of 16 pictures, of two models"
    assert not any(
        missing_batches(asked.image_paths(model), asked.architecture) for model in MODELS
    )
    assert to_json(run(folder, "shards")) == to_json(run(folder, "whole"))
    for path in (folder / "shards").iterdir():
        assert path.read_bytes() == (folder / "whole" / path.name).read_bytes()


@pytest.mark.parametrize(("number", "count"), [(0, 4), (5, 4), (1, 0)])
def test_shards_that_there_are_not(folder: Path, number: int, count: int) -> None:
    asked = session(folder)
    with pytest.raises(UsageError, match=f"shard {number}/{count}"):
        shard(asked.image_paths("erased"), asked.architecture, number, count)


def test_a_shard_by_the_command(folder: Path, cli: Cli) -> None:
    (folder / "coco.csv").write_text(COCO, encoding="utf-8")
    words: list[Any] = ["evaluate", folder / "recipe.yaml", folder / "out.safetensors"]
    words += ["--base", folder / "in.safetensors", "--images", folder / "pictures"]
    (folder / "out.evaluation.json").unlink(missing_ok=True)
    ran = cli(*words, "--dataset", folder / "coco.csv", "--shard", "2/2")
    assert ran.code == 0, ran.err
    assert "shard 2/2: its" in ran.out
    assert not (folder / "out.evaluation.json").exists()
    assert cli(*words, "--shard", "2").code == 2
    assert cli(*words, "--dataset", folder / "none.csv").code == 2
    ran = cli(*words, "--shard", "3/2")
    assert ran.code == 2
    assert "write 1/2 to 2/2" in ran.err


def test_a_damaged_picture_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"PNG")
    with pytest.raises(UsageError, match=r"a\.png: not a picture; delete it"):
        load_pixels([path])
