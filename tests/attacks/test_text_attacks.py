"""Attacks that are searched for on text features: what they find, and what they may not find."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erasepro_convert.attacks import text_inversion, token_search
from erasepro_convert.attacks.case import unchanged
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.rece import rece_cases
from erasepro_convert.attacks.target_distance import encode
from erasepro_convert.attacks.text_inversion import invert, text_inversion_cases
from erasepro_convert.attacks.token_search import Slots, search_words
from erasepro_convert.attacks.word_attacks import mma_cases, ring_a_bell_cases, unlearn_diff_cases
from erasepro_convert.attacks.word_embedding import copies, replacing_word_embedding, word_id
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language.prompts import whole_words
from tests.attacks.context import erased_demo, snoopy_context
from tests.conftest import Cli

pytestmark = pytest.mark.slow

RECIPE = "recipes/demo/snoopy.yaml"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    """The demo model, and what our defaults make of it."""
    original, erased = map(LoadedModel, erased_demo(tmp_path_factory.mktemp("text"), Path(RECIPE)))
    return original, erased


def test_distances_are_0_at_the_target_and_1_at_the_anchor(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    original, erased = models
    context = snoopy_context(*models)
    distances, weights = context.distances, original.weights
    assert distances.of(unchanged, weights, weights) == pytest.approx(0, abs=1e-3)
    dog = context.with_words("dog")
    assert distances.of(dog, weights, weights) == pytest.approx(1, abs=1e-3)
    assert distances.of(unchanged, erased.weights, erased.weights) > 0.9


def test_both_encoders_give_the_same_features(models: tuple[LoadedModel, LoadedModel]) -> None:
    """Gradients need the library's encoder; distances are measured with our own."""
    original, _ = models
    distances = snoopy_context(*models).distances
    with torch.no_grad():
        ids = [tokenize(prompt).ids for prompt in distances.prompts]
        found = encode(original.text_encoder, ids, distances.positions(distances.prompts))
    assert torch.allclose(found, distances.goal.target, atol=1e-4)


def test_prompts_that_clip_reads_alike_are_drawn_once(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    context = snoopy_context(*models)
    assert context.rewritten(context.with_words("SNOOPY")) == context.rewritten(unchanged)
    changed = context.rewritten(context.with_words("dog", "cat"))
    assert list(changed.values()) == ["a photo of dog", "cat at night"]


def test_several_embeddings_stand_for_copies_of_the_word(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    encoder = models[0].text_encoder
    table = encoder.get_input_embeddings().weight
    ids = [tokenize(text).ids for text in ("a dog cat in snow", f"a {copies(2)} in snow")]
    dog, cat = (table[whole_words()[word]] for word in ("dog", "cat"))
    plain = encoder(torch.tensor(ids[:1])).last_hidden_state
    with replacing_word_embedding(encoder, torch.stack([dog, cat])):
        assert torch.allclose(encoder(torch.tensor(ids[1:])).last_hidden_state, plain, atol=1e-5)


def test_an_inversion_finds_the_target_again_where_it_is(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    original, erased = models
    distances = snoopy_context(*models).distances

    def distance(model: LoadedModel, seed: int) -> float:
        found = invert(model, distances, 1, seed)
        with replacing_word_embedding(model.text_encoder, found), torch.no_grad():
            features = distances.encode(model.text_encoder, copies(1))
            return distances.form(model.weights, model.weights).distance(features)

    there = distance(original, 0)
    assert there < 0.1
    assert there < distance(erased, 0) < distances.of(unchanged, erased.weights, erased.weights)
    assert torch.equal(invert(erased, distances, 2, 1), invert(erased, distances, 2, 1))


def test_an_inversion_has_a_case_for_each_number_of_tokens(
    models: tuple[LoadedModel, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_inversion, "STEPS", 3)
    told: list[tuple[str, int, int]] = []
    context = snoopy_context(*models, report=lambda *done: told.append(done))
    one, four = text_inversion_cases(replace(context, draws=True))
    assert [len(sets) for sets in (one.attacked, one.original, one.control)] == [2, 1, 1]
    assert four.how == "4 tokens"
    assert copies(4) in four.attacked[0].prompts["snoopy at night"]
    digests = {s.variant.digest for case in (one, four) for s in (*case.attacked, *case.control)}
    assert len(digests) == 6
    assert told == [("inverting text", i, 8) for i in range(8)]


def test_slots_take_words_in_order() -> None:
    slots = Slots.of([f"a {copies(2)} here", f"{copies(2)}"], 8)
    words = torch.tensor([[5, 6], [7, 8], [9, 10]])
    filled = slots.filled(words).view(3, 2, 8)
    assert not (filled == word_id()).any()
    assert filled[1, 0].tolist()[:6] == [*tokenize("a").ids[:2], 7, 8, *tokenize("here").ids[1:3]]
    assert filled[2, 1, 1:3].tolist() == [9, 10]


def test_a_search_for_words_brings_the_loss_down_and_repeats(
    models: tuple[LoadedModel, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_search, "STEPS", 6)
    original, _ = models
    distances = snoopy_context(*models).distances.first(1)
    words = [whole_words()[word] for word in ("dog", "cat", "house", "car", "snoopy", "snow")]
    prompts = [distances.prompts[0].replace("snoopy", copies(1))]
    rows, places = (list(side) for side in zip(*distances.positions(prompts), strict=True))
    form = distances.form(original.weights, original.weights)
    told: list[tuple[int, int]] = []

    def found(seed: int) -> torch.Tensor:
        return search_words(
            original.text_encoder, prompts, 1, max(places) + 1, torch.tensor(words),
            lambda features: form.squares(features[:, rows, places]).mean(1), seed,
            lambda *done: told.append(done),
        )  # fmt: skip

    assert found(0).tolist() == found(1).tolist() == [whole_words()["snoopy"]]
    assert told[:6] == [(i, 6) for i in range(6)]


def test_searches_never_write_the_targets_own_words(
    models: tuple[LoadedModel, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_search, "STEPS", 2)
    context = snoopy_context(*models)
    for cases in (ring_a_bell_cases, mma_cases):
        (case,) = cases(context)
        assert not any("snoopy" in p for p in case.attacked[0].prompts.values())
        assert case.attacked[0].prompts == case.original[0].prompts
        assert case.attacked[0].prompts != case.control[0].prompts
    (case,) = unlearn_diff_cases(context)
    for prompt, written in case.attacked[0].prompts.items():
        assert written.endswith(f" {prompt}")
        assert written.count("snoopy") == 1


def test_rece_derives_the_targets_features_from_themselves_where_nothing_was_erased(
    models: tuple[LoadedModel, LoadedModel],
) -> None:
    (case,) = rece_cases(snoopy_context(*models))
    assert case.distances
    assert case.distances.original is not None
    assert case.distances.original < 0.05
    assert case.distances.original < case.distances.erased < 1
    variant = case.original[0].variant
    with variant.prepare(lambda _: None) as prepared, torch.no_grad():
        assert prepared.embed
        derived = prepared.embed(["a photo of snoopy"])
        plain, _ = prepared.pipeline.encode_prompt("a photo of snoopy", "cpu", 1, False)
    assert torch.allclose(derived, plain, atol=0.3)


def test_other_peoples_text_encoders_are_put_before_the_erased_unet(
    cli: Cli, models: tuple[LoadedModel, LoadedModel], checkpoint_file: Path, tmp_path: Path
) -> None:
    """Here the other person's checkpoint is a copy of the original."""
    original, erased = models
    other = tmp_path / "[red]other.safetensors"
    other.symlink_to(original.path)
    args = "stress", RECIPE, erased.path, "--base", original.path, "--attack", "swap-te"
    results = tmp_path / "out.json"
    ran = cli(*args, "--text-encoder", other, "--out", results)
    assert ran.code == 0, ran.err
    assert "text encoder of [red]other.safetensors" in ran.out
    found = json.loads(results.read_text("utf-8"))
    assert found["text_encoders"] == {other.name: original.digest}
    rows = {row["how"]: row["distances"] for row in found["rows"]}
    same, theirs = rows["original text encoder"], rows[f"text encoder of {other.name}"]
    assert (theirs["erased"], theirs["control"]) == (same["erased"], same["control"])
    assert theirs["original"] == pytest.approx(0, abs=1e-3)
    assert theirs["erased"] > 0.5

    twin = tmp_path / "twin" / other.name
    twin.parent.mkdir()
    twin.symlink_to(original.path)
    ran = cli(*args, "--text-encoder", other, "--text-encoder", twin)
    assert (ran.code, "two files of this name" in ran.err) == (2, True)
    ran = cli(*args[:-1], "rece", "--text-encoder", other)
    assert (ran.code, "--attack leaves out" in ran.err) == (2, True)
    ran = cli(*args, "--text-encoder", checkpoint_file)
    assert (ran.code, "features are" in ran.err) == (4, True)


def test_attacks_on_text_draw_nothing(
    cli: Cli, models: tuple[LoadedModel, LoadedModel], tmp_path: Path
) -> None:
    base, erased = (model.path for model in models)
    args = "stress", RECIPE, erased, "--base", base, "--images", tmp_path / "pictures"
    ran = cli(*args, "--attack", "swap-te,rece", "--out", tmp_path / "out.csv")
    assert ran.code == 0
    *shown, wrote = ran.out.splitlines()
    assert wrote.startswith("wrote ")  # and a path of any length
    assert max(map(len, shown)) <= 80
    assert "recovered" not in ran.out
    assert not (tmp_path / "pictures").exists()
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("concept,attack,how,")
    ran = cli(*args, "--attack", "ti")
    assert ran.code == 2
    assert "--attack ti is made of pictures: add --draw" in ran.err
    ran = cli(*args, "--attack", "prefixes")
    assert ran.code == 2
    assert "--attack prefixes: unknown attack; known are swap-te" in ran.err
