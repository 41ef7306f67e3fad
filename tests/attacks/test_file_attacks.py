"""Attacks on files: what is done to weights, that it repeats, and that it is undone."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.attacks import finetune, lora, merge
from erasepro_convert.attacks.case import AttackContext, Effort, unchanged
from erasepro_convert.attacks.changed_weights import parameters_of
from erasepro_convert.attacks.control_concept import draw_control_pictures
from erasepro_convert.attacks.finetune import finetune_cases
from erasepro_convert.attacks.lora import RANDOM_SIZE, RANK, lora_cases, random_lora
from erasepro_convert.attacks.merge import merge_models
from erasepro_convert.attacks.model import LoadedModel, ModelVariant
from erasepro_convert.attacks.quantise import BLOCK, NF4, SCHEMES, int8, nf4, quantise_model
from erasepro_convert.attacks.target_distance import TargetDistances
from erasepro_convert.recipe import load_recipe
from erasepro_convert.sd1.keys import TOKEN_EMBEDDING, text_keys
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys
from tests.attacks.context import erased_demo
from tests.conftest import Cli

RECIPE = Path("recipes/paper/snoopy.yaml")
STEPS = 2
"""Enough training to see whether it repeats and is undone."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo model, and erased by the paper's settings."""
    return erased_demo(tmp_path_factory.mktemp("files"), RECIPE)


@pytest.fixture(scope="module")
def context(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> AttackContext:
    """The attacks' context with drawings of the sign where pictures of the target would be."""
    original, erased = (LoadedModel(file) for file in files)
    recipe = load_recipe(RECIPE)
    pictures = [tmp_path_factory.mktemp("pictures") / f"{i}.png" for i in range(3)]
    for path, pixels in zip(pictures, draw_control_pictures(3, 64), strict=True):
        Image.fromarray(pixels).save(path)
    return AttackContext(
        original=original,
        erased=erased,
        target="snoopy",
        prompts=("a photo of snoopy",),
        pictures=tuple(pictures),
        draws=True,
        distances=TargetDistances(
            original.weights, recipe.concepts[0], recipe.probe.prompts, recipe.probe.others
        ),
        effort=Effort(steps=1, seeds=2, candidates=1),
        report=lambda *_: None,
        others=("a dog", "a house"),
        text_encoders=(),
    )


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training take few steps, on few pictures."""
    monkeypatch.setattr(lora, "STEPS", STEPS)
    monkeypatch.setattr(finetune, "OTHERS_STEPS", STEPS)
    monkeypatch.setattr(finetune, "TARGET_STEPS", (STEPS, STEPS + 1))
    monkeypatch.setattr(finetune, "OTHERS_PICTURES", 2)
    monkeypatch.setattr(finetune, "SAMPLING_STEPS", 2)


def bits(model: LoadedModel) -> dict[str, Tensor]:
    """Return a copy of all weights of a model's pipeline."""
    return {name: p.detach().clone() for name, p in parameters_of(model).items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def prepared(model: LoadedModel, variant: ModelVariant) -> dict[str, Tensor]:
    """Return the weights with which a variant draws, and check its announced work."""
    done: list[int] = []
    with variant.prepare(done.append):
        found = bits(model)
    assert sum(done) == variant.setup_steps
    return found


@pytest.mark.parametrize("shape", [(6, 100), (5, 8, 3, 3), (1, 64)])
def test_8_bits_are_whole_multiples_of_each_outputs_scale(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rows = weight.flatten(1).double().numpy()
    scales = np.abs(rows).max(1, keepdims=True) / 127
    plain = np.rint(rows / scales) * scales
    found = int8(weight)
    assert found.shape == weight.shape
    np.testing.assert_allclose(found.flatten(1).numpy(), plain, atol=1e-6)
    assert (np.abs(found.flatten(1).numpy() - rows) <= scales / 2 * (1 + 1e-4)).all()


@pytest.mark.parametrize("shape", [(6, 100), (5, 8, 3, 3), (1, 64)])
def test_4_bits_are_the_nearest_level_of_each_block(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = weight.flatten().double().numpy()
    plain = flat.copy()
    largest_gap = max(np.diff(NF4))
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        scale = np.abs(block).max()
        levels = np.array(NF4) * scale
        plain[start : start + BLOCK] = levels[np.abs(block[:, None] - levels).argmin(1)]
        errors = np.abs(plain[start : start + BLOCK] - block)
        assert (errors <= scale * largest_gap / 2 * (1 + 1e-6)).all()
    found = nf4(weight)
    assert found.shape == weight.shape
    np.testing.assert_allclose(found.flatten().numpy(), plain, atol=1e-6)


@pytest.mark.parametrize("quantise", SCHEMES.values())
def test_zeros_stay_zeros(quantise: object) -> None:
    zeros = torch.zeros(3, 70)
    assert callable(quantise)
    assert torch.equal(quantise(zeros), zeros)


def test_weights_of_layers_are_rounded_and_nothing_else(context: AttackContext) -> None:
    model = context.erased
    found = quantise_model(model, "4 bits (NF4)").weights
    widths = model.architecture.widths
    for key in (*text_keys(widths), *unet_keys(widths), *vae_keys(widths)):
        before, after = model.checkpoint.read(key.original), found.read(key.original)
        is_layer = (
            len(key.shape) > 1
            and "embeddings." not in key.original
            and not key.original.startswith("first_stage_model.")
        )
        assert torch.equal(before, after) != is_layer, key.original


def test_a_merge_goes_from_the_original_to_the_erased_model(context: AttackContext) -> None:
    original, erased = context.original, context.erased
    ends = {0.0: original, 1.0: erased}
    widths = erased.architecture.widths
    names = [key.original for key in (*unet_keys(widths), *text_keys(widths), *vae_keys(widths))]
    found = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        weights = merge_models(original, erased, share).weights
        found.append(context.distances.of(unchanged, weights, weights))
        if share in ends:
            for name in names:
                assert torch.equal(weights.read(name), ends[share].checkpoint.read(name))
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found == sorted(found)
    plain = context.distances.of(unchanged, erased.weights, erased.weights)
    assert found[-1] == plain


def test_a_merge_is_the_weighted_sum(context: AttackContext) -> None:
    weights = merge_models(context.original, context.erased, 0.25).weights
    name = lora.text_projections(context.erased.architecture.widths)[0]
    one, other = (m.checkpoint.read(name).double() for m in (context.erased, context.original))
    torch.testing.assert_close(weights.read(name).double(), 0.25 * one + 0.75 * other)


def test_a_random_lora_has_its_rank_and_size(context: AttackContext) -> None:
    model = context.erased
    widths = model.architecture.widths
    one, same, other = (random_lora(model, seed).weights for seed in (0, 0, 1))
    names = [*lora.unet_projections(widths), *lora.text_projections(widths)]
    assert len(names) == 128 + 48
    for name in names[::16]:
        before = model.checkpoint.read(name).double()
        addition = one.read(name).double() - before
        sizes = torch.linalg.svdvals(addition)
        assert int((sizes > 1e-4 * sizes[0]).sum()) == RANK
        assert float(addition.norm() / before.norm()) == pytest.approx(RANDOM_SIZE, rel=1e-4)
        assert torch.equal(one.read(name), same.read(name))
        assert not torch.equal(one.read(name), other.read(name))
    assert torch.equal(one.read(TOKEN_EMBEDDING), model.checkpoint.read(TOKEN_EMBEDDING))


def test_what_is_drawn_and_measured_are_equal_weights(context: AttackContext) -> None:
    model = context.erased
    for changed in (
        merge_models(context.original, model, 0.5),
        quantise_model(model, "8 bits (int8)"),
        random_lora(model, 0),
    ):
        for name, weight in prepared(model, changed.variant).items():
            assert torch.equal(weight, changed.weights.read(name).view(weight.shape)), name


def variants(context: AttackContext) -> Iterator[ModelVariant]:
    """Give every variant of the erased model that changes weights, of one seed."""
    yield merge_models(context.original, context.erased, 0.5).variant
    for case in (*lora_cases(context), *finetune_cases(context)):
        yield case.attacked[0].variant


def test_weights_are_restored_to_the_bit(context: AttackContext, short_training: None) -> None:
    model = context.erased
    before = bits(model)
    for variant in variants(context):
        assert not equal(prepared(model, variant), before)
        assert equal(bits(model), before)


def test_an_interrupted_drawing_restores_weights(context: AttackContext) -> None:
    before = bits(context.erased)
    variant = merge_models(context.original, context.erased, 0.5).variant
    with pytest.raises(KeyboardInterrupt), variant.prepare(lambda _: None):
        raise KeyboardInterrupt
    assert equal(bits(context.erased), before)


def test_an_interrupted_training_restores_weights(
    context: AttackContext, short_training: None
) -> None:
    model = context.erased
    before = bits(model)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    for variant in list(variants(context))[2:]:  # those that train
        with pytest.raises(KeyboardInterrupt), variant.prepare(interrupt):
            pass
        assert equal(bits(model), before)


def test_training_repeats_to_the_bit(context: AttackContext, short_training: None) -> None:
    model = context.erased
    *_, trained, _ = lora_cases(context)
    others, target, longer = finetune_cases(context)
    assert len({v.variant.digest for v in (*target.attacked, *longer.attacked)}) == 4
    for case in (trained, others, target):
        first, second = (prompt_set.variant for prompt_set in case.attacked)
        found = prepared(model, first)
        assert equal(prepared(model, first), found)
        assert not equal(prepared(model, second), found)


def test_a_trained_lora_adds_its_rank_to_the_unets_attention_alone(
    context: AttackContext, short_training: None
) -> None:
    model = context.erased
    before = bits(model)
    *_, trained, _ = lora_cases(context)
    after = prepared(model, trained.attacked[0].variant)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert sorted(changed) == sorted(lora.unet_projections(model.architecture.widths))
    for name in changed[::16]:
        sizes = torch.linalg.svdvals((after[name] - before[name]).double())
        assert float(sizes[RANK]) < 1e-3 * float(sizes[0]) + 1e-8  # weights are float32


def test_narrow_models_learn_at_a_higher_rate(
    context: AttackContext, short_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of Adam moves each number by its rate: SD1.x's, times how much narrower it is."""
    monkeypatch.setattr(finetune, "OTHERS_STEPS", 1)
    before = bits(context.erased)
    others, *_ = finetune_cases(context)
    after = prepared(context.erased, others.attacked[0].variant)
    largest = max(float((after[n] - before[n]).abs().max()) for n in before)
    decay = 1.01 * finetune.RATE
    assert largest == pytest.approx(finetune.RATE * 320 / 48, rel=0.02, abs=decay)


def test_digests_differ_with_all_that_decides(context: AttackContext) -> None:
    original, erased = context.original, context.erased
    digests = [
        *(merge_models(original, erased, share).digest for share in (0.25, 0.5)),
        merge_models(erased, original, 0.25).digest,
        *(quantise_model(m, scheme).digest for m in (original, erased) for scheme in SCHEMES),
        *(random_lora(m, seed).digest for m in (original, erased) for seed in (0, 1)),
    ]
    cases = [*lora_cases(context)][1:], [*finetune_cases(context)]
    for case in (*cases[0], *cases[1]):
        sets = (*case.attacked, *case.original)
        digests += [prompt_set.variant.digest for prompt_set in sets if case.wanted == "target"]
    assert len(set(digests)) == len(digests)


@pytest.mark.slow
def test_files_are_attacked_from_the_command_line(
    cli: Cli,
    files: tuple[Path, Path],
    tmp_path: Path,
    short_training: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, erased = files
    monkeypatch.setattr(merge, "SHARES", {"1/4 erased, 3/4 original": 0.25})
    monkeypatch.setattr(finetune, "TARGET_STEPS", (1,))
    out = tmp_path / "out.json"
    args = (
        "stress", RECIPE, erased, "--base", base, "--attack", "merge,finetune",
        "--seeds", 1, "--steps", 4, "--trials", 1, "--draw", "--out", out,
    )  # fmt: skip
    ran = cli(*args)
    assert ran.code == 0, ran.err
    assert [line for line in ran.out.splitlines() if "on the target" in line]
    rows = {row["how"]: row for row in json.loads(out.read_text("utf-8"))["rows"]}
    merged = rows["1/4 erased, 3/4 original"]
    assert merged["drawn"]["original"] is None
    assert merged["distances"]["erased"] < rows[""]["distances"]["erased"]
    trained = rows[f"on other things, {STEPS} steps"]
    assert trained["drawn"]["original"]["value"] > 0.8
    assert trained["distances"] is None
