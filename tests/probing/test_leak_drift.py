"""Leak and drift against transformers' text encoder, and what they must be at the extremes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest import ProbeRecord, read_manifest
from erasepro_convert.probing.leak_drift import measure_leak_and_drift
from erasepro_convert.recipe import Recipe
from tests import oracle
from tests.conftest import PROBED, VAN_GOGH, Cli, WriteRecipe
from tests.miniature import State, state_dict

MakeRecipe = Callable[[str], Recipe]


def measure(recipe: Recipe, original: State, edited: State) -> ProbeRecord:
    return measure_leak_and_drift(recipe, original.__getitem__, edited.__getitem__)


def mean(record: ProbeRecord) -> dict[tuple[str | None, str, int], float]:
    return {
        (m.concept, m.feed.text_encoder, m.feed.clip_skip): m.mean
        for m in (*record.leak, *record.drift)
    }


def test_nothing_done_leaks_all_and_drifts_not(make_recipe: MakeRecipe, state: State) -> None:
    record = measure(make_recipe(PROBED), state, state)
    for (concept, _, _), value in mean(record).items():
        assert value == pytest.approx(1.0 if concept else 0.0, abs=1e-6)


@pytest.mark.slow
def test_both_equal_the_oracle(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """A whole checkpoint of other weights, through transformers in float64, prompt by prompt."""
    recipe, other = make_recipe(PROBED), state_dict(seed=1)
    record = measure(recipe, state, other)
    old, new = oracle.text_model(state), oracle.text_model(other)
    # positions of "van gogh …" and "artist …" from 1 to EOS, by hand
    pairs = [
        ("Van Gogh in the rain", "artist in the rain", [1, 1, 2, 3, 4, 5]),
        ("an old Van Gogh", "an old artist", [1, 2, 3, 3, 4]),
    ]
    for skip in (1, 2):
        for encoder, fed in (("edited", new), ("stock", old)):
            others = []
            for prompt in ("a house", "a cat at night"):
                tokens = tokenize(prompt)
                ids, places = list(tokens.ids), range(1, tokens.count)
                others.append([oracle.features(e, ids, None, skip)[:, places] for e in (old, fed)])
            all_others = [
                np.concatenate(features, axis=1) for features in zip(*others, strict=True)
            ]
            leaks, drifts = [], []
            for name in oracle.kv_names():
                w, v = state[name].double().numpy(), other[name].double().numpy()
                all_old, all_fed = w @ all_others[0], v @ all_others[1]
                spread = np.linalg.norm(all_old - all_old.mean(1, keepdims=True))
                spread /= np.sqrt(all_old.shape[1])
                moved = (all_fed - all_old).mean(1, keepdims=True)
                shift = moved if name.endswith("to_k.weight") else 0 * moved
                for o_old, o_fed in others:
                    drift = np.linalg.norm(v @ o_fed - w @ o_old - shift)
                    drifts.append(drift / np.sqrt(o_old.shape[1]) / spread)
                for target, anchor, positions in pairs:
                    x, y = (list(tokenize(p).ids) for p in (target, anchor))
                    places = range(1, len(positions) + 1)
                    t_old = oracle.features(old, x, None, skip)[:, places]
                    t_fed = oracle.features(fed, x, None, skip)[:, places]
                    a_old = oracle.features(old, y, None, skip)[:, positions]
                    gap = np.linalg.norm(w @ t_old - w @ a_old)
                    leaks.append(np.linalg.norm(v @ t_fed - w @ a_old - shift) / gap)
            means = mean(record)
            assert means["Van Gogh", encoder, skip] == pytest.approx(np.mean(leaks), rel=1e-4)
            assert means[None, encoder, skip] == pytest.approx(np.mean(drifts), rel=1e-4)


def test_the_worst_prompt_is_named(make_recipe: MakeRecipe, state: State) -> None:
    record = measure(make_recipe(PROBED), state, state_dict(seed=1))
    for m in (*record.leak, *record.drift):
        assert m.prompts == 2
        assert m.worst >= m.mean
        assert m.worst_prompt in (
            ["Van Gogh in the rain", "an old Van Gogh"]
            if m.concept
            else ["a house", "a cat at night"]
        )


def test_others_with_a_targets_words_are_not_measured(
    make_recipe: MakeRecipe, state: State
) -> None:
    recipe = make_recipe(
        VAN_GOGH + "probe: {others: [a hut, a hut by van  gogh, a van, Van Gogh]}\n"
    )
    assert all(m.prompts == 2 for m in measure(recipe, state, state).drift)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("{leak: 0.001}", "leak is above the limit of 0.001: 'Van Gogh' "),
        ("{drift: 0.0001}", "above the limit of 0.0001"),
        ("{relative_update: 0.001}", "times its norm, above the limit of 0.001"),
    ],
)
def test_an_exceeded_limit_writes_nothing(
    limits: str,
    said: str,
    cli: Cli,
    write_recipe: WriteRecipe,
    checkpoint_file: Path,
    tmp_path: Path,
) -> None:
    every = "{leak: null, drift: null, relative_update: null}"
    assert every in VAN_GOGH
    others = {
        "leak": "drift: null, relative_update: null",
        "drift": "leak: null, relative_update: null",
        "relative_update": "leak: null, drift: null",
    }
    name = limits[1:].split(":", maxsplit=1)[0]
    text = VAN_GOGH.replace(every, f"{limits[:-1]}, {others[name]}}}")
    ran = cli(write_recipe(text), checkpoint_file, tmp_path / "out.safetensors")
    assert ran.code == 3
    assert said in ran.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_the_stock_encoder_is_held_when_asked(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Zero residual for both encoders: the erased U-Net holds with the stock one."""
    recipe = make_recipe(VAN_GOGH.replace("[edited]", "[edited, stock]"))
    target = tmp_path / "out.safetensors"
    manifest = convert(recipe, checkpoint_file, target, Options(), lambda *_: None)
    output = load_file(target)
    assert manifest.edits[-1].columns == 2 * manifest.alignment.deeper_layers.columns
    old, new = oracle.text_model(state), oracle.text_model(output)
    x, y = (list(tokenize(prompt).ids) for prompt in ("Van Gogh", "artist"))
    anchor = torch.tensor(oracle.features(old, y, None))[:, [0, 1, 1, 2]]
    for encoder in (old, new):
        fed = torch.tensor(oracle.features(encoder, x, None))[:, :4]
        for name in oracle.kv_names():
            goal = state[name].double() @ anchor
            residual = output[name].double() @ fed - goal
            assert float(residual.norm() / goal.norm()) < 1e-5


@pytest.mark.slow
def test_limits_hold_by_default(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Random weights hold none of them: a default recipe refuses."""
    recipe = make_recipe("version: 1\nconcepts: [{target: Van Gogh, anchor: artist}]\n")
    with pytest.raises(LimitError, match="does not hold"):
        convert(recipe, checkpoint_file, tmp_path / "x.safetensors", Options(), lambda *_: None)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.slow
def test_a_dry_run_shows_all_of_a_result_that_does_not_hold(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = write_recipe("version: 1\nconcepts: [{target: Van Gogh, anchor: artist}]\n")
    ran = cli("--dry-run", recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert ran.code == 3
    assert ran.err.startswith(
        "error: the result does not hold:\n- leak is above the limit of 0.5: "
    )
    assert len(ran.err.splitlines()) <= 10
    assert "✗ Van Gogh is not erased: " in ran.out
    detailed = cli("--details", "--dry-run", recipe, checkpoint_file, tmp_path / "out.safetensors")
    for said in ("leak of Van Gogh", "reach of Van Gogh", "unet.up.3.2"):
        assert said in detailed.out
        assert said not in ran.out
    assert "dry run: nothing was written" in ran.out
    quiet = cli("--quiet", "--dry-run", recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert (quiet.code, quiet.out, quiet.err) == (3, "", ran.err)


def test_distances_are_what_leak_is_a_ratio_of(make_recipe: MakeRecipe, state: State) -> None:
    """One prompt and both measures against the same two ends."""
    recipe = make_recipe(PROBED.replace(', "an old {}"', ""))
    for m in measure(recipe, state, state_dict(seed=1)).leak:
        assert m.distance_before is not None
        assert m.distance_after is not None
        # both are means of ratios over matrices, so only nearly the ratio of means
        assert m.distance_after / m.distance_before == pytest.approx(m.mean, rel=0.2)
    for m in measure(recipe, state, state).leak:
        assert m.distance_after == pytest.approx(m.distance_before)


@pytest.fixture
def erased(van_gogh: Path, checkpoint_file: Path, tmp_path: Path, cli: Cli) -> Path:
    target = tmp_path / "erased.safetensors"
    assert cli("--quiet", van_gogh, checkpoint_file, target).code == 0
    return target


def test_the_command_measures_what_conversion_measured(
    erased: Path, van_gogh: Path, checkpoint_file: Path, cli: Cli
) -> None:
    ran = cli("probe", "--json", van_gogh, erased, "--base", checkpoint_file)
    assert ran.code == 0
    record = ProbeRecord.model_validate(json.loads(ran.out)[str(erased)])
    made = read_manifest(erased.with_suffix(".manifest.json")).probe
    for mine, theirs in zip((*record.leak, *record.drift), (*made.leak, *made.drift), strict=True):
        assert mine.mean == pytest.approx(theirs.mean, rel=1e-5)
    for reach, made_reach in zip(record.reach, made.reach, strict=True):
        assert reach.reach == pytest.approx(made_reach.reach, rel=1e-5)


@pytest.mark.slow
def test_the_command_tells_by_its_exit_code(
    erased: Path, write_recipe: WriteRecipe, checkpoint_file: Path, cli: Cli
) -> None:
    strict = write_recipe(VAN_GOGH.replace("drift: null", "drift: 0.0001"))
    ran = cli("probe", strict, checkpoint_file, erased, "--base", checkpoint_file)
    assert ran.code == 3
    assert f"{erased}: drift is " in ran.err
    assert f"{checkpoint_file}: " not in ran.err, "the original itself has not drifted"


def test_without_a_base_the_command_says_how_far_the_target_is_from_the_anchor(
    erased: Path, van_gogh: Path, checkpoint_file: Path, cli: Cli
) -> None:
    ran = cli("probe", van_gogh, checkpoint_file, erased)
    assert ran.code == 0
    rows = [line for line in ran.out.splitlines() if line.startswith("Van Gogh ")]
    before, after = (float(row.split()[-1]) for row in rows)
    assert 0 <= after < before


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "message"), [("nan", "holds NaN"), ("1e30", "not finite")])
def test_a_damaged_checkpoint_is_no_traceback(
    factor: str, message: str, cli: Cli, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    name = "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
    save_file({**state, name: state[name] * float(factor)}, tmp_path / "in.safetensors")
    ran = cli("probe", van_gogh, tmp_path / "in.safetensors")
    assert ran.code == 4
    assert message in ran.err
