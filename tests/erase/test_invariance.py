"""What keeps every picture keeps the erasure: offsets, gains and scales of the features."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert import demo
from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.probing.limits import exceeded
from erasepro_convert.probing.neighbours import find_synonyms, suggest
from erasepro_convert.recipe import Recipe
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from tests.same_pictures import same_pictures

pytestmark = pytest.mark.slow

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "offset 1.5": {"offset": 1.5},
    "offset 3": {"offset": 3},
    "gains and scales": {"gains": 2, "scales": 2},
    "all": {"offset": 3, "gains": 2, "scales": 2, "seed": 1},
}
RECIPES = {
    "snoopy": [("snoopy", "dog")],
    "burning": [("burning", "unharmed"), ("on fire", "unharmed")],
    "van gogh": [
        (name, "artist")
        for name in ("Van Gogh", "Vincent van Gogh", "starry night", "sunflowers painting")
    ],
    "five": [
        ("R2D2", "car"), ("nemo", "fish"), ("zombie", "girl"), ("Garfield", "cat"),
        ("Monet", "artist"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("same")
    with demo.checkpoint() as shipped:
        state = load_file(shipped)
    made = {"original": folder / "original.safetensors"}
    save_file(state, made["original"])
    for name, settings in VARIANTS.items():
        made[name] = folder / f"{name}.safetensors"
        save_file(same_pictures(state, **settings), made[name])
    return made


def recipe(name: str, **settings: object) -> Recipe:
    concepts = [{"target": target, "anchor": anchor} for target, anchor in RECIPES[name]]
    return Recipe.model_validate({"version": 1, "name": "r", "concepts": concepts, **settings})


@cache
def erased(
    file: Path, name: str, tolerance: float | None = None, method: str = "erasepro"
) -> Erasure:
    checkpoint, asked = open_sd1_checkpoint(file), recipe(name, tolerance=tolerance, method=method)
    return run_erasure(checkpoint, asked, None, lambda *_: None)


def test_the_variants_draw_the_same_pictures(files: dict[str, Path]) -> None:
    jobs = [SeededPrompt(p, seed) for seed, p in enumerate(("snoopy", "a burning house"))]
    pictures = {}
    for name, file in files.items():
        pipeline, architecture = load_pipeline(file)
        with torch.inference_mode():
            pictures[name] = generate(
                pipeline, architecture, jobs, Sampling(steps=6, guidance=4), lambda _: None
            ).float()
    for name in VARIANTS:
        assert float((pictures[name] - pictures["original"]).abs().mean()) < 2, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", RECIPES)
def test_defaults_leak_drift_reach_and_hold_alike(
    name: str, variant: str, files: dict[str, Path]
) -> None:
    original, other = erased(files["original"], name), erased(files[variant], name)
    pairs = zip(
        (*original.probe.leak, *original.probe.drift),
        (*other.probe.leak, *other.probe.drift),
        strict=True,
    )
    for before, after in pairs:
        assert after.mean == pytest.approx(before.mean, abs=0.03), before.feed
    for reach, other_reach in zip(original.probe.reach, other.probe.reach, strict=True):
        assert other_reach.reach == pytest.approx(reach.reach, abs=0.03), reach.concept
    for one in (original, other):
        assert exceeded(one.recipe, one.probe, one.changes) == ()
        assert all(change.changed for change in one.changes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_tolerance_is_a_share_of_what_changes(variant: str, files: dict[str, Path]) -> None:
    original = erased(files["original"], "five", 0.2)
    other = erased(files[variant], "five", 0.2)
    for before, after in zip(original.probe.leak, other.probe.leak, strict=True):
        assert after.mean == pytest.approx(before.mean, abs=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
def test_algorithm_2_leaks_and_drifts_alike(variant: str, files: dict[str, Path]) -> None:
    original, other = (
        erased(files[name], "five", method="erasepro-modified") for name in ("original", variant)
    )
    for part in ("leak", "drift"):
        measures = (getattr(one.probe, part) for one in (original, other))
        for before, after in zip(*measures, strict=True):
            assert after.mean == pytest.approx(before.mean, abs=0.03), before.feed


@pytest.mark.parametrize("variant", VARIANTS)
def test_words_are_as_near_to_each_other(
    variant: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    original, other = (open_sd1_checkpoint(files[name]) for name in ("original", variant))
    pairs = [("burning", "unharmed"), ("snoopy", "dog")]
    found, same = (find_synonyms(one, pairs, lambda *_: None) for one in (original, other))
    assert len(found["burning"]) > 5
    for target, words in found.items():
        assert words == pytest.approx(same[target], abs=0.01)
    near, nearest = (suggest(one, "dog", 5, lambda *_: None) for one in (original, other))
    for word, same_word in zip(near.nearest, nearest.nearest, strict=True):
        assert word.word == same_word.word
        assert word.cosine == pytest.approx(same_word.cosine, abs=0.01)
