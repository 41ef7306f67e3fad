"""Erasing a checkpoint again: what it has lost already is kept, and only what is new is solved."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert.cli import main
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.manifest import Manifest, PromptMeasure, read_manifest
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.default_prompts import REFERENCE_WORDS
from tests import oracle
from tests.conftest import Cli, copy_of_demo
from tests.miniature import State, state_dict

ONE = "version: 1\nconcepts: [{target: Van Gogh, anchor: artist}]\n"
TWO = "version: 1\nconcepts: [{target: van gogh, anchor: artist}, {target: snoopy, anchor: dog}]\n"
LIMIT = 0.5


@pytest.fixture(scope="session")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model without Van Gogh, its manifest beside it."""
    folder = tmp_path_factory.mktemp("erased")
    (folder / "one.yaml").write_text(ONE)
    main(
        [
            "--quiet",
            *map(str, (folder / "one.yaml", copy_of_demo(folder), folder / "once.safetensors")),
        ]
    )
    return folder / "once.safetensors"


def again(cli: Cli, recipe: str, source: Path, folder: Path, *options: str) -> Manifest:
    (folder / "again.yaml").write_text(recipe)
    ran = cli(*options, folder / "again.yaml", source, folder / "again.safetensors")
    assert ran.code == 0, ran.err
    return read_manifest(folder / "again.manifest.json")


def leak(manifest: Manifest, target: str) -> list[PromptMeasure]:
    return [m for m in manifest.probe.leak if m.concept == target]


@pytest.mark.slow
def test_the_same_recipe_again_changes_nothing(cli: Cli, erased: Path, tmp_path: Path) -> None:
    manifest = again(cli, ONE, erased, tmp_path)
    assert manifest.alignment.held == ("Van Gogh",)
    assert not manifest.edits
    before, after = load_file(erased), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for measure in leak(manifest, "Van Gogh"):
        assert 0 < measure.before < LIMIT
        assert measure.mean == pytest.approx(measure.before)


@pytest.mark.slow
def test_a_batch_takes_it_as_done(cli: Cli, erased: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONE)
    ran = cli("batch", tmp_path / "one.yaml", erased, "--out", tmp_path / "out", "--jobs", 1)
    assert ran.code == 0, ran.out
    assert "1 file: 1 done" in ran.out


@pytest.mark.slow
def test_it_can_be_stored_in_another_type(cli: Cli, erased: Path, tmp_path: Path) -> None:
    again(cli, ONE, erased, tmp_path, "--dtype", "fp32")
    before, after = load_file(erased), load_file(tmp_path / "again.safetensors")
    for name, value in before.items():
        assert torch.equal(value.float() if value.is_floating_point() else value, after[name])


def bare(model: Path, target: Path, **metadata: str) -> Path:
    """The same tensors with other metadata, and no manifest beside them."""
    save_file(load_file(model), target, metadata={"format": "pt", **metadata})
    return target


def digests(manifest: Manifest) -> dict[str, str]:
    return {name: tensor.digest for name, tensor in manifest.output.tensors.items()}


@pytest.mark.slow
def test_only_what_is_new_is_solved(cli: Cli, erased: Path, tmp_path: Path) -> None:
    manifest = again(cli, TWO, erased, tmp_path)
    assert manifest.alignment.held == ("van gogh",)
    assert not [p.target for p in manifest.alignment.prompts if "van gogh" in p.target]
    assert "a painting by van gogh" in manifest.alignment.retained
    for measure in leak(manifest, "van gogh"):
        assert measure.mean < 1.5 * measure.before < LIMIT
    for measure in leak(manifest, "snoopy"):
        assert measure.before == pytest.approx(1)
        assert measure.mean < LIMIT
    ran = cli("verify", tmp_path / "again.safetensors", "--base", erased, "--replay")
    assert ran.code == 0, ran.err


@pytest.mark.slow
@pytest.mark.parametrize("told", [False, True])
def test_whatever_tells_of_the_first_erasure_the_result_is_one(
    told: bool, cli: Cli, erased: Path, tmp_path: Path
) -> None:
    """Metadata, a manifest, or nothing but the measure."""
    by_metadata = again(cli, TWO, erased, tmp_path)
    source = bare(erased, tmp_path / "bare.safetensors")
    if told:
        manifest = erased.with_suffix(".manifest.json").read_bytes()
        (tmp_path / "bare.manifest.json").write_bytes(manifest)
    found = again(cli, TWO, source, tmp_path, "--force")
    assert found.alignment == by_metadata.alignment
    assert digests(found) == digests(by_metadata)


CLAIM = json.dumps([{"target": "Van Gogh", "anchor": "artist"}])


@pytest.mark.slow
@pytest.mark.parametrize("claim", [CLAIM, "[1]", "{", '[{"target": 1}]', "[" * 10000])
def test_a_claim_that_is_not_true_changes_nothing(claim: str, cli: Cli, tmp_path: Path) -> None:
    demo = copy_of_demo(tmp_path)
    honest = again(cli, ONE, bare(demo, tmp_path / "plain.safetensors"), tmp_path)
    forged = bare(demo, tmp_path / "forged.safetensors", **{"erasepro.concepts": claim})
    assert digests(again(cli, ONE, forged, tmp_path, "--force")) == digests(honest)
    assert not honest.alignment.held


@pytest.mark.slow
def test_an_earlier_erasure_that_left_more_than_the_limit_is_refused(
    cli: Cli, erased: Path, tmp_path: Path
) -> None:
    (tmp_path / "strict.yaml").write_text(ONE + "limits: {leak: 0.1}\n")
    ran = cli(tmp_path / "strict.yaml", erased, tmp_path / "out.safetensors")
    assert ran.code == 3
    assert "leak is above the limit of 0.1: 'Van Gogh' " in ran.err


@pytest.mark.slow
def test_the_probe_command_recognises_it_too(cli: Cli, erased: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONE)
    ran = cli("probe", tmp_path / "one.yaml", erased, "--base", erased)
    assert ran.code == 0, ran.err
    copy = copy_of_demo(tmp_path)
    assert cli("probe", tmp_path / "one.yaml", copy, "--base", copy).code == 3


@pytest.mark.slow
def test_held_leak_equals_the_oracle(make_recipe: Callable[[str], Recipe], state: State) -> None:
    """One template, by hand: what is left beside how far other words are, matrix by matrix."""
    recipe = make_recipe(
        "version: 1\nconcepts: [{target: old snoopy, anchor: old dog}]\n"
        'probe: {prompts: ["a {} here"], others: [a house]}\n'
    )
    other = state_dict(seed=1)
    old, new = oracle.text_model(state), oracle.text_model(other)

    def fed(model: object, text: str) -> oracle.Matrix:
        ids = list(tokenize(text).ids)
        return oracle.features(model, ids, None)[:, 1:6]  # a old WORD here EOS

    anchor, words = fed(old, "a old dog here"), [w for w in REFERENCE_WORDS if w != "dog"]
    leaks, befores = [], []
    for name in oracle.kv_names():
        w, v = state[name].double().numpy(), other[name].double().numpy()
        goal = w @ anchor
        squares = [((w @ fed(old, f"a old {word} here") - goal) ** 2).sum() for word in words]
        unit = (sum(squares) / len(squares)) ** 0.5
        moved = v @ fed(new, "a house")[:, :3] - w @ fed(old, "a house")[:, :3]
        shift = moved.mean(1, keepdims=True) if name.endswith("to_k.weight") else 0
        leaks.append(((v @ fed(new, "a old snoopy here") - goal - shift) ** 2).sum() ** 0.5 / unit)
        befores.append(((w @ fed(old, "a old snoopy here") - goal) ** 2).sum() ** 0.5 / unit)
    record = measure_leak_and_drift(
        recipe, state.__getitem__, other.__getitem__, already_erased={"old snoopy"}
    )
    edited = next(m for m in record.leak if m.feed.text_encoder == "edited")
    assert edited.mean == pytest.approx(sum(leaks) / len(leaks), rel=1e-4)
    assert edited.before == pytest.approx(sum(befores) / len(befores), rel=1e-4)
