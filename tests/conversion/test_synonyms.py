"""``synonyms: auto`` finds words in the checkpoint; listed, they give the same bytes."""

from pathlib import Path

import pytest

from erasepro_convert.manifest import read_manifest
from tests.conftest import Cli, copy_of_demo

pytestmark = pytest.mark.slow

RECIPE = """\
version: 1
name: fire
concepts:
  - {{target: burning, anchor: unharmed, synonyms: {synonyms}}}
  - {{target: on fire, anchor: unharmed}}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_demo(tmp_path_factory.mktemp("synonyms"))


def test_words_that_mean_fire_are_found_shown_and_recorded(
    base: Path, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "auto.yaml").write_text(RECIPE.format(synonyms="auto"))
    ran = cli("--details", tmp_path / "auto.yaml", base, tmp_path / "auto.safetensors")
    assert ran.code == 0, ran.err
    manifest = read_manifest(tmp_path / "auto.manifest.json")
    (synonyms,) = manifest.synonyms.values()
    found = [synonym.word for synonym in synonyms]
    assert {"flames", "fire", "inferno", "hell", "volcano"} <= set(found)
    assert not {"dog", "house", "unharmed", "burning"} & set(found)
    assert list(synonyms) == sorted(synonyms, key=lambda synonym: synonym.distance)
    assert "means the same as 'burning' to this checkpoint: hell 0." in ran.out
    targets = [concept.target for concept in manifest.recipe.concepts]
    assert targets == ["burning", "on fire", *found]

    (tmp_path / "list.yaml").write_text(RECIPE.format(synonyms=found))
    assert cli(tmp_path / "list.yaml", base, tmp_path / "list.safetensors").code == 0
    listed = read_manifest(tmp_path / "list.manifest.json")
    (from_list,), (from_auto,) = listed.output.files, manifest.output.files
    assert from_list.sha256 == from_auto.sha256
    assert listed.recipe_sha256 == manifest.recipe_sha256
    assert listed.synonyms == {}
    again = cli("verify", tmp_path / "auto.safetensors", "--base", base)
    assert again.code == 0, again.err


def test_a_word_that_the_model_does_not_know_has_none(base: Path, cli: Cli, tmp_path: Path) -> None:
    text = RECIPE.format(synonyms="auto").replace("burning", "nude").replace("unharmed", "dog")
    (tmp_path / "nude.yaml").write_text(text + "limits: {leak: null, drift: null}\n")
    ran = cli("--details", "--dry-run", tmp_path / "nude.yaml", base, tmp_path / "out.safetensors")
    assert ran.code == 0, ran.err
    assert "means the same as 'nude' to this checkpoint: no other word" in ran.out
