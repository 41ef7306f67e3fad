"""The methods against a plain oracle, and the properties that the paper promises."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.erasure import measure_erasure
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.runtime.dtypes import DtypeOption
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from tests import oracle
from tests.conftest import PLAIN, SHORT, VAN_GOGH
from tests.miniature import State, state_dict

MakeRecipe = Callable[[str], Recipe]

# (target prompt, position, anchor prompt, position), written out by hand.
ONE_PAIR = [
    ("Van Gogh", 0, "artist", 0),
    ("Van Gogh", 1, "artist", 1),
    ("Van Gogh", 2, "artist", 1),
    ("Van Gogh", 3, "artist", 2),
]
TWO_PAIRS = """
version: 1
method: {method}
pairing: position
concepts:
  - target: R2D2
    anchor: car
    prompts: ["{{}}", "a drawing of {{}} asleep"]
  - {{target: grumpy cat, anchor: cute cat, prompts: ["{{}}"]}}
"""
TWO_PAIRS_COLUMNS = [
    *(("R2D2", i, "car", i) for i in range(6)),  # four tokens, BOS and EOS
    # BOS is there already
    *(("a drawing of R2D2 asleep", i, "a drawing of car asleep", i) for i in range(1, 10)),
    *(("grumpy cat", i, "cute cat", i) for i in range(1, 4)),
]


def run(recipe: Recipe, source: Path, target: Path, **options: object) -> tuple[Manifest, State]:
    manifest = convert(recipe, source, target, Options(**options), lambda *_: None)  # type: ignore[arg-type]
    return manifest, load_file(target)


def ids_of(columns: list[tuple[str, int, str, int]]) -> tuple[oracle.Places, oracle.Places]:
    target = [(list(tokenize(prompt).ids), position) for prompt, position, _, _ in columns]
    anchor = [(list(tokenize(prompt).ids), position) for _, _, prompt, position in columns]
    return target, anchor


@pytest.mark.slow
@pytest.mark.parametrize("method", ["erasepro", "erasepro-modified", "uce"])
def test_one_pair_equals_the_oracle(
    method: str, make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Every edited matrix is within 2e-6 relative of the float64 oracle's."""
    recipe = make_recipe(VAN_GOGH + f"method: {method}\n")
    _, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    expected = oracle.erase(state, *ids_of(ONE_PAIR), method)
    assert_close(output, expected, state)


@pytest.mark.parametrize("method", ["erasepro", "erasepro-modified", "uce"])
@pytest.mark.slow
def test_several_pairs_and_prompts_equal_the_oracle(
    method: str, make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(TWO_PAIRS.format(method=method) + PLAIN)
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert manifest.alignment.deeper_layers.columns == len(TWO_PAIRS_COLUMNS)
    expected = oracle.erase(state, *ids_of(TWO_PAIRS_COLUMNS), method)
    assert_close(output, expected, state)


@pytest.mark.parametrize(("name", "tokens", "first_layer"), [("w", 5, 5), ("s", 8, 1)])
@pytest.mark.slow
def test_the_papers_implicit_settings_equal_the_oracle(
    name: str, tokens: int, first_layer: int, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """ErasePro-w and -s as shipped: Algorithm 2, the empty prompt, first tokens, later layers."""
    recipe = load_recipe(Path(f"recipes/paper/nudity-implicit-{name}.yaml"))
    _, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    columns = [("nudity", i, "", i) for i in range(tokens)]
    expected = oracle.erase(state, *ids_of(columns), "erasepro-modified", first_layer)
    assert_close(output, expected, state)


def assert_close(output: State, expected: State, original: State) -> None:
    changed = {n for n in output if not torch.equal(output[n], original[n])}
    assert changed == set(expected)
    worst = {
        name: float((output[name].double() - w.double()).norm() / w.double().norm())
        for name, w in expected.items()
    }
    assert max(worst.values()) <= 2e-6, max(worst.items(), key=lambda item: item[1])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-6), ("fp16", 1e-3), ("bf16", 1e-2)])
def test_one_pair_leaves_no_residual(
    dtype: DtypeOption, bound: float, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Algorithm 1 meets WX = W_oY in every edited matrix, up to the rounding of the file."""
    source = tmp_path / "in.safetensors"
    save_file(state_dict(dtype=dtype), source)
    manifest, _ = run(make_recipe(VAN_GOGH), source, tmp_path / "out.safetensors")
    assert len(manifest.edits) == 36 + 32
    for edit in manifest.edits:
        assert edit.residual_before.relative > 0.01
        assert edit.residual_after.relative < bound


@pytest.mark.slow
def test_uce_leaves_a_residual(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Eq. 3: the control that shows the zero residual above is not trivial."""
    recipe = make_recipe(VAN_GOGH + "method: uce\n")
    manifest, _ = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert len(manifest.edits) == 32
    for edit in manifest.edits:
        assert 1e-3 < edit.residual_after.relative < edit.residual_before.relative


NULL_SPACE = (
    SHORT
    + """
method: null-space
retain: {prompts: [a dog, a red car], weight: 100}
limits: {leak: null, drift: null, relative_update: null}
"""
)
RETAINED = [("a dog", 0), ("a dog", 1), ("a dog", 2), ("a dog", 3)]
RETAINED += [("a red car", 2), ("a red car", 3), ("a red car", 4)]  # the rest is there already


@pytest.mark.slow
def test_the_null_space_solve_equals_the_oracle(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    _, output = run(make_recipe(NULL_SPACE), checkpoint_file, tmp_path / "out.safetensors")
    target, anchor = ids_of(ONE_PAIR)
    model = oracle.text_model(state)
    kept = [(list(tokenize(prompt).ids), position) for prompt, position in RETAINED]
    x, y, retained = (oracle.stack(model, places, None) for places in (target, anchor, kept))
    expected = {
        name: torch.from_numpy(
            oracle.null_space(state[name].double().numpy(), x, y, retained, 100)
        ).to(state[name].dtype)
        for name in oracle.kv_names()
    }
    assert_close(output, expected, state)


PUBLISHED = """
version: 1
method: {method}
concepts: [{{target: Van Gogh, anchor: artist}}]
retain: {{prompts: [a dog, a red car, a house at night, two cats], weight: {weight}}}
limits: {{leak: null, drift: null, relative_update: null}}
"""
LAST_WORDS = [("a dog", 2), ("a red car", 3), ("a house at night", 4), ("two cats", 2)]


def stacked(state: State, places: list[tuple[str, int]]) -> oracle.Matrix:
    """What the U-Net reads of the original text encoder at some places of prompts."""
    columns = [(list(tokenize(prompt).ids), position) for prompt, position in places]
    return oracle.stack(oracle.text_model(state), columns, None)


def kv_of(state: State, parts: str, solve: Callable[[oracle.Matrix], oracle.Matrix]) -> State:
    """The keys (k) or values (v) of the cross-attention after an oracle's solve."""
    return {
        name: torch.from_numpy(solve(state[name].double().numpy())).to(state[name].dtype)
        for name in oracle.kv_names()
        if name[name.index("attn2.to_") + 9] in parts
    }


@pytest.mark.slow
def test_double_projections_take_the_last_words(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """The bare name's last token goes to the anchor's, beside last words of retained prompts."""
    recipe = make_recipe(PUBLISHED.format(method="double-projections", weight=10))
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    (pair,) = manifest.alignment.prompts
    assert (pair.target, pair.first_position, pair.anchor_positions) == ("Van Gogh", 2, (1,))
    x, y = stacked(state, [("Van Gogh", 2)]), stacked(state, [("artist", 1)])
    r = stacked(state, LAST_WORDS)
    expected = kv_of(state, "kv", lambda w: oracle.double_projections(w, x, y, r, 10))
    assert_close(output, expected, state)


@pytest.mark.slow
def test_cure_takes_all_tokens(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(PUBLISHED.format(method="cure", weight=2))
    _, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    x = stacked(state, [("Van Gogh", i) for i in range(4)])
    kept = [(prompt, i) for prompt, end in LAST_WORDS for i in range(end + 2)]
    seen = {tokenize(prompt).ids[: i + 1]: (prompt, i) for prompt, i in kept}  # each feature once
    r = stacked(state, list(seen.values()))
    assert_close(output, kv_of(state, "kv", lambda w: oracle.cure(w, x, r, 2)), state)


@pytest.mark.slow
def test_speed_edits_values_and_holds_the_empty_prompt(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(PUBLISHED.format(method="speed", weight=10))
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert len(manifest.edits) == 16
    changed = {name for name in output if not torch.equal(output[name], state[name])}
    assert changed == {name for name in oracle.kv_names() if "to_v" in name}
    bos = torch.from_numpy(stacked(state, [("", 0)]))
    target = torch.from_numpy(stacked(state, [("Van Gogh", 2)]))
    for name in changed:
        delta = output[name].double() - state[name].double()
        assert (delta @ bos).norm() < 1e-5 * (delta @ target).norm()


@pytest.mark.slow
def test_trce_takes_the_ends_of_prompts(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Without a prior every template's EOS feature gets its goal, and nothing else is asked for."""
    recipe = make_recipe(PUBLISHED.format(method="trce", weight=0))
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    pairs = manifest.alignment.prompts
    assert all(pair.first_position == pair.target_tokens - 1 for pair in pairs)
    x = stacked(state, [(pair.target, pair.target_tokens - 1) for pair in pairs])
    y = stacked(state, [(pair.anchor, pair.anchor_tokens - 1) for pair in pairs])
    assert_close(output, kv_of(state, "kv", lambda w: oracle.eq5(w, x, y)), state)


@pytest.mark.slow
def test_the_difference_projector_is_its_formula(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Exact and in the plain norm: whatever tells target from anchor gives the same output."""
    recipe = make_recipe(
        SHORT + PLAIN + "method: difference-projector\nlayers: {text_encoder: none}\n"
    )
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert len(manifest.edits) == 32
    target, anchor = ids_of(ONE_PAIR)
    model = oracle.text_model(state)
    # BOS is the same in both, so that its difference adds nothing
    x, y = (oracle.stack(model, places[1:], None) for places in (target, anchor))
    solve = partial(oracle.difference_projector, x=x, y=y, c=np.eye(len(x)))
    assert_close(output, kv_of(state, "kv", solve), state)


def test_retained_prompts_that_use_everything_leave_nothing_to_do(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(SHORT + "method: null-space\nretain: {weight: 1.0e+30}\n")
    with pytest.raises(LimitError, match="leaves nothing to change"):
        run(recipe, checkpoint_file, tmp_path / "out.safetensors")


@pytest.mark.slow
def test_records_are_those_of_the_stored_weights(
    make_recipe: MakeRecipe, state: State, tmp_path: Path
) -> None:
    """Norms recomputed from the two files equal the manifest's."""
    source = tmp_path / "in.safetensors"
    half = state_dict(dtype="fp16")
    save_file(half, source)
    manifest, output = run(make_recipe(VAN_GOGH), source, tmp_path / "out.safetensors")
    for edit in manifest.edits:
        before, after = half[edit.name].double(), output[edit.name].double()
        assert edit.norm == pytest.approx(float(before.norm()), rel=1e-12)
        assert edit.update_norm == pytest.approx(float((after - before).norm()), rel=1e-9)
        assert edit.relative_update == pytest.approx(edit.update_norm / edit.norm, rel=1e-12)
        assert edit.dtype == "F16"
        assert edit.shape == tuple(after.shape)


@pytest.mark.parametrize("method", ["erasepro", "erasepro-modified"])
@pytest.mark.slow
def test_residuals_hold_in_the_file_that_is_written(
    method: str, make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Recomputed by transformers on the output, where a dtype rounds the unedited weights too."""
    recipe = make_recipe(VAN_GOGH + f"method: {method}\n")
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors", dtype="bf16")
    old = oracle.text_model(state)
    # Algorithm 2 extracts X through layers before their update: as stored, but unedited
    edited = {edit.name for edit in manifest.edits}
    rounded = {name: state[name].bfloat16() if name in edited else output[name] for name in state}
    new = oracle.text_model(output if method == "erasepro" else rounded)
    target, anchor = ids_of(ONE_PAIR)
    for edit in manifest.edits:
        unet = edit.layer.startswith("unet")
        layer = None if unet else int(edit.layer.removeprefix("text_encoder."))
        x = torch.from_numpy(oracle.stack(new, target, layer))
        goal = state[edit.name].double() @ torch.from_numpy(oracle.stack(old, anchor, layer))
        residual = float((output[edit.name].double() @ x - goal).norm())
        assert edit.residual_after.absolute == pytest.approx(residual, rel=1e-6)


@pytest.mark.slow
def test_only_the_layers_asked_for_change(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(VAN_GOGH + "layers: {text_encoder: [2, 5-6], unet: [mid, up.2-3]}\n")
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    layers = {edit.layer for edit in manifest.edits}
    assert layers == {
        *(f"text_encoder.{i}" for i in (2, 5, 6)),
        *("unet.mid.0", *(f"unet.up.{i}.{j}" for i in (2, 3) for j in range(3))),
    }
    edited = {edit.name for edit in manifest.edits}
    for name, value in output.items():
        assert torch.equal(value, state[name]) == (name not in edited)


@pytest.mark.slow
def test_clip_skip_holds_the_constraint_for_both_feeds(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """With clip_skip [1, 2] the edited U-Net maps target to anchor whichever layer feeds it."""
    recipe = make_recipe(VAN_GOGH + "clip_skip: [1, 2]\n")
    manifest, output = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    assert manifest.edits[-1].columns == 2 * manifest.alignment.deeper_layers.columns
    old, new = oracle.text_model(state), oracle.text_model(output)
    target, anchor = ids_of(ONE_PAIR)
    for skip in (1, 2):
        x = torch.tensor(oracle.features(new, target[0][0], None, skip))[:, :4]
        y = torch.tensor(oracle.features(old, anchor[0][0], None, skip))[:, [0, 1, 1, 2]]
        for name in oracle.kv_names():
            goal = state[name].double() @ y
            residual = output[name].double() @ x - goal
            assert float(residual.norm() / goal.norm()) < 1e-6


@pytest.mark.slow
def test_updates_shrink_with_depth_when_propagated(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Fig. 2d: with the text encoder aligned first, the U-Net needs less change than without."""
    full, _ = run(make_recipe(VAN_GOGH), checkpoint_file, tmp_path / "a.safetensors")
    alone, _ = run(
        make_recipe(VAN_GOGH + "layers: {text_encoder: none}\n"),
        checkpoint_file,
        tmp_path / "b.safetensors",
    )
    deep = {edit.name: edit.update_norm for edit in full.edits}
    assert all(deep[edit.name] < edit.update_norm for edit in alone.edits)


@pytest.mark.slow
def test_conflicts_are_reported_and_leave_a_residual(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Two targets that begin alike but go to different anchors can't both be met at that token."""
    recipe = make_recipe(
        "version: 1\nconcepts:\n"
        '  - {target: van gogh, anchor: artist, prompts: ["{}"]}\n'
        '  - {target: van halen, anchor: band, prompts: ["{}"]}\n' + PLAIN
    )
    manifest, _ = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    (conflict,) = manifest.alignment.deeper_layers.conflicts
    assert (conflict.target_prompt, conflict.position, conflict.token) == ("van gogh", 1, "van")
    assert [place.prompt for place in conflict.anchors] == ["artist", "band"]
    for edit in manifest.edits:
        assert edit.conflicts == 1
        assert edit.rank == edit.columns - 1
        assert edit.residual_after.relative > 1e-3


@pytest.mark.slow
def test_the_first_layer_has_conflicts_of_its_own(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Before any attention EOS at position 3 is one feature, whatever the prompt was.

    Here one pair sends it to position 2 and the other to itself: only layer 1 can't meet both.
    """
    recipe = make_recipe(
        "version: 1\nconcepts:\n"
        '  - {target: van gogh, anchor: artist, prompts: ["{}"]}\n'
        '  - {target: grumpy cat, anchor: cute cat, prompts: ["{}"]}\n' + PLAIN
    )
    manifest, _ = run(recipe, checkpoint_file, tmp_path / "out.safetensors")
    (conflict,) = manifest.alignment.first_layer.conflicts
    assert conflict.token == "<|endoftext|>"
    assert [place.position for place in conflict.anchors] == [2, 3]
    assert manifest.alignment.deeper_layers.conflicts == ()
    for edit in manifest.edits:
        assert edit.conflicts == (edit.layer == "text_encoder.1")
        assert (edit.residual_after.relative > 1e-3) == (edit.layer == "text_encoder.1")


@pytest.mark.slow
def test_distance_and_angle_to_the_anchor_are_recorded(
    make_recipe: MakeRecipe, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Of what each layer reads, with the edits before it and without any (Fig. 3a)."""
    manifest, output = run(make_recipe(VAN_GOGH), checkpoint_file, tmp_path / "out.safetensors")
    target, anchor = ids_of(ONE_PAIR)
    old, new = oracle.text_model(state), oracle.text_model(output)
    for edit in manifest.edits:
        unet = edit.layer.startswith("unet")
        layer = None if unet else int(edit.layer.removeprefix("text_encoder."))
        y = oracle.stack(old, anchor, layer)
        for model, apart in (
            (new, edit.feature_distance),
            (old, edit.feature_distance_without_edits),
        ):
            x = oracle.stack(model, target, layer)
            cosines = (x * y).sum(0) / np.linalg.norm(x, axis=0) / np.linalg.norm(y, axis=0)
            angle = np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean()
            distance = np.linalg.norm(x - y) / np.linalg.norm(y)
            assert apart.distance == pytest.approx(distance, rel=1e-5)
            assert apart.angle == pytest.approx(angle, abs=1e-2)


@pytest.mark.slow
def test_the_burden_with_and_without_progression_is_computed_when_asked_for(
    make_recipe: MakeRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """What one text encoder alone asks of the cross-attention is what a run for it alone does."""
    path, recipe = tmp_path / "out.safetensors", make_recipe(VAN_GOGH)
    written, _ = run(recipe, checkpoint_file, path)
    assert all(edit.single_encoder_update is None for edit in written.edits)
    base, output = open_sd1_checkpoint(checkpoint_file), open_sd1_checkpoint(path)
    edited = measure_erasure(
        base, recipe, None, lambda *_: None, output.read, single_encoder=True
    ).edits.values()
    alone = make_recipe(VAN_GOGH + "layers: {text_encoder: none}\n")
    stock, _ = run(alone, checkpoint_file, tmp_path / "stock.safetensors")
    unet = {edit.name: edit for edit in stock.edits}
    for edit in (edit.record for edit in edited):
        update = edit.single_encoder_update
        if not edit.layer.startswith("unet"):
            assert update is None
            continue
        assert update is not None
        assert update["edited"] == pytest.approx(edit.update_norm, rel=1e-4)
        assert update["stock"] == pytest.approx(unet[edit.name].update_norm, rel=1e-4)
