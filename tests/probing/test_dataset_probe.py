"""Published prompts measured on the demo model: what is left of a target, however expressed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from erasepro_convert.compare.variants import PAPER, recipe_for_method
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.probing import published_prompts
from erasepro_convert.probing.dataset_probe import DatasetMeasure, probe_prompts
from erasepro_convert.probing.published_prompts import PromptGroup, read_for_probe
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.runtime.progress import silent
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.storage.location import locate
from tests.conftest import Cli, WriteRecipe, copy_of_demo
from tests.same_pictures import same_pictures

RECIPE = """
version: 1
name: snoopy
concepts: [{target: snoopy, anchor: dog}]
"""
EMMA: Mapping[str, object] = {
    "1_name": [{"snoopy": ["an image of snoopy"]}, {"house": ["an image of the house"]}],
    "4_short": [{"snoopy": ["charlie brown's beagle", "a photo of a peanuts mascot"]}],
    "5_long": [
        {
            "snoopy": [
                "a drawing of charlie brown's beagle in the snow at night",
                "look at a peanuts mascot on the beach, a close-up of the peanuts mascot",
            ]
        }
    ],
    "6_random": {"snoopy": ["an image of the car", "an image of the tree"]},
    "7_hard": [{"snoopy": ["an image of the cat", "an image of snoopy"]}],
}
Key = tuple[str, str | None, str]
"""A measure, its level or kind, and the text encoder."""


def write(folder: Path) -> list[Path]:
    files = []
    for name, content in EMMA.items():
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(content), encoding="utf-8")
    return files


@pytest.fixture
def recipe(write_recipe: WriteRecipe) -> Recipe:
    return load_recipe(write_recipe(RECIPE))


def groups_of(paths: list[Path], recipe: Recipe) -> dict[tuple[str, str | None], PromptGroup]:
    return {(group.kind, group.level): group for group in read_for_probe(paths, recipe)}


def test_prompts_are_grouped_by_what_they_are_about(tmp_path: Path, recipe: Recipe) -> None:
    groups = groups_of(write(tmp_path), recipe)
    assert list(groups) == [
        ("target", "name"),
        ("target", "short"),
        ("target", "long"),
        ("target", None),
        ("near", None),
        ("far", None),
    ]
    texts = {key: [prompt.text for prompt in group.prompts] for key, group in groups.items()}
    assert texts["target", None] == ["an image of snoopy"], "it is no neighbour of its own"
    assert texts["near", None] == ["an image of the cat"]
    assert texts["far", None] == [
        "an image of the house",
        "an image of the car",
        "an image of the tree",
    ]
    (named,) = groups["target", "name"].prompts
    assert named.pair
    assert named.pair.anchor == "an image of dog"
    assert all(prompt.pair is None for prompt in groups["target", "short"].prompts)


@pytest.mark.parametrize(
    "text",
    ["snoopy and snoopy", "snoopy {}", f"snoopy {'on a hill ' * 40}", "snoopy <|endoftext|>"],
)
def test_some_prompts_have_no_anchor_prompt(tmp_path: Path, recipe: Recipe, text: str) -> None:
    (path,) = [tmp_path / "1_name.json"]
    path.write_text(json.dumps([{"snoopy": [text]}]), encoding="utf-8")
    (group,) = read_for_probe([path], recipe)
    assert group.prompts[0].pair is None


def test_of_many_prompts_some_are_measured(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_prompts, "MOST", 3)
    path = tmp_path / "coco.csv"
    path.write_text("image_id,text\n" + "".join(f"{i},boat {i}\n" for i in range(9)))
    (group,) = read_for_probe([path, path], recipe)
    assert [prompt.text for prompt in group.prompts] == ["boat 0", "boat 3", "boat 6"]
    assert group.found == 9, "a prompt that is there twice counts once"
    assert group.prompts[1].place == f"{path}:5"


def test_harmful_prompts_of_no_target_say_nothing(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "storm.csv"
    path.write_text("prompt,evaluation_seed\nwindd gusty,3\n")
    with pytest.raises(UsageError, match=re.escape(f"{path}: it has no prompts, or only harmful")):
        read_for_probe([path], recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, and what the default recipe and the paper's settings make of it."""
    folder = tmp_path_factory.mktemp("datasets")
    source = copy_of_demo(folder)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(folder / "recipe.yaml")
    for name in ("erasepro", PAPER):
        out = folder / f"{name}.safetensors"
        convert(recipe_for_method(recipe, name), source, out, Options())
    write(folder)
    return folder


def measured(
    folder: Path, erased: str, original: str = "in.safetensors"
) -> dict[Key, DatasetMeasure]:
    recipe = load_recipe(folder / "recipe.yaml")
    groups = read_for_probe([folder / f"{name}.json" for name in EMMA], recipe)
    edited, base = (open_sd1_checkpoint(locate(folder / name)) for name in (erased, original))
    found = probe_prompts(groups, recipe, edited, base, silent)
    return {
        (m.measure, m.level if m.kind == "target" else m.kind, m.feed.text_encoder): m
        for m in found
    }


@pytest.mark.slow
def test_nothing_done_leaves_all(folder: Path) -> None:
    for (measure, level, _), found in measured(folder, "in.safetensors").items():
        assert found.mean == pytest.approx(found.before, abs=1e-5)
        if measure == "presence":
            assert found.mean > 0.9, f"the original reads {level} as the target"
        else:
            assert found.mean == pytest.approx(1.0 if measure == "leak" else 0.0, abs=1e-5)


@pytest.mark.slow
def test_descriptions_tell_the_default_from_the_paper(folder: Path) -> None:
    """In pictures, the paper's settings leave the target where its description implies it."""
    ours, paper = (measured(folder, f"{name}.safetensors") for name in ("erasepro", PAPER))
    for level in ("short", "long"):
        assert ours["presence", level, "edited"].mean < 0.4
        assert paper["presence", level, "edited"].mean > 0.6
        assert ours["presence", level, "stock"].mean < 0.2
        assert paper["presence", level, "stock"].mean > 0.9, "the stock encoder undoes it"
    assert ours["leak", "name", "edited"].mean < 0.4 < paper["leak", "name", "edited"].mean
    for kind in ("near", "far"):
        assert ours["drift", kind, "edited"].mean < paper["drift", kind, "edited"].mean


@pytest.mark.slow
def test_what_no_picture_shows_changes_nothing(folder: Path) -> None:
    """Features with a constant and other gains, for the same pictures, have the same presence."""
    base, erased = (folder / f"{name}-changed.safetensors" for name in ("in", "erasepro"))
    state = load_file(folder / "in.safetensors")
    save_file(same_pictures(state, offset=3, gains=2, scales=2), base)
    convert(folder / "recipe.yaml", base, erased, Options())
    after = measured(folder, erased.name, base.name)
    for key, found in measured(folder, "erasepro.safetensors").items():
        assert after[key].mean == pytest.approx(found.mean, abs=0.03), key
        assert after[key].before == pytest.approx(found.before, abs=0.03), key


@pytest.mark.slow
def test_the_command(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [word for name in EMMA for word in ("--dataset", folder / f"{name}.json")]
    erased, base = folder / "erasepro.safetensors", folder / "in.safetensors"
    command = ("probe", folder / "recipe.yaml", erased, "--base", base)
    ran = cli(*command, *files, "--json")
    assert ran.code == 0, ran.err
    (record,) = json.loads(ran.out).values()
    assert json.loads(cli(*command, "--json").out)[str(erased)] == {
        key: value for key, value in record.items() if key != "datasets"
    }
    short = next(m for m in record["datasets"] if m["level"] == "short")
    assert short["measure"] == "presence"
    assert short["worst"][0]["place"] == f"{folder / '4_short.json'}: snoopy"

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", cli(*command, *files).out)
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"^short +edited +2 +– +– +0\.9\d +0\.\d\d ", shown, re.MULTILINE)
    assert re.search(r"^near snoopy +stock +1 ", shown, re.MULTILINE)


def test_a_dataset_needs_the_original(cli: Cli, tmp_path: Path, write_recipe: WriteRecipe) -> None:
    path = tmp_path / "1_name.json"
    path.write_text("[]")
    ran = cli("probe", write_recipe(RECIPE), copy_of_demo(tmp_path), "--dataset", path)
    assert ran.code == 2
    assert "--dataset needs --base" in ran.err
