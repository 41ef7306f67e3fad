"""Attacks: what they ask, what the figures are made of, and what they bring back on the demo."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from erasepro_convert import demo
from erasepro_convert.attacks import prefix
from erasepro_convert.attacks import textual_inversion as inversion
from erasepro_convert.attacks.budgets import budgets
from erasepro_convert.attacks.case import Effort, replace_target
from erasepro_convert.attacks.control_concept import draw_control_pictures
from erasepro_convert.attacks.detector import nearest_group
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.names import DESCRIPTIONS, ON_PICTURES, ON_TEXT
from erasepro_convert.attacks.paraphrases import paraphrases, read_translations
from erasepro_convert.attacks.prompt_weights import apply_weights, parse_weights, weighted_embedder
from erasepro_convert.attacks.recovery import recovery_ratio
from erasepro_convert.attacks.run import ATTACKS
from erasepro_convert.attacks.word_embedding import WORD, replacing_word_embedding
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import CheckpointError
from erasepro_convert.evaluate.metrics.intervals import Interval, wilson_interval
from erasepro_convert.evaluate.results import Estimate
from erasepro_convert.images import open_model
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.manifest import read_manifest
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.hashing import files_digest
from erasepro_convert.sd1.keys import SD1
from tests.attacks.context import snoopy_context
from tests.conftest import Cli

pytestmark = pytest.mark.slow


def value(p: float, n: int) -> Estimate:
    return Estimate(p, wilson_interval(p, n))


def test_the_targets_words_are_replaced_however_they_are_written() -> None:
    assert replace_target("A cat by VAN GOGH, oil", "Van Gogh", "X") == "A cat by X, oil"


def test_tricks_write_words_in_other_ways() -> None:
    ways = paraphrases("Van Gogh")
    assert ways["misspelt"] == ["Van Goggh", "Van Goh", "Van Ggoh"]
    assert ways["homoglyphs"] == ["Vаn Gоgh"]
    assert "梵高" in ways["other languages"]
    assert ways["spaced"] == ["V a n G o g h"]
    assert ways["upper case"] == ["VAN GOGH"]
    assert ways["weight, as characters"] == ["(Van Gogh:1.4)", "((Van Gogh))"]
    assert all("Van Gogh" not in kind for kind in ways["misspelt"])


def test_kinds_that_a_word_does_not_have_are_left_out() -> None:
    ways = paraphrases("XY")
    assert not ways.keys() & {"misspelt", "other languages", "upper case"}
    assert all(way != "XY" for kind in ways.values() for way in kind)


def test_every_translation_is_another_way_to_write_it() -> None:
    for concept, languages in read_translations().items():
        assert concept not in {words.lower() for words in languages.values()}
        assert all(words == words.strip() != "" for words in languages.values())


def test_weights_go_to_the_tokens_in_brackets() -> None:
    tokens, weights = parse_weights("a (blue dog:1.4), (snow:0.5) here")
    assert tokens == tokenize("a blue dog, snow here")
    # BOS a blue dog , snow here EOS …
    assert weights[:8] == [1, 1, 1.4, 1.4, 1, 0.5, 1, 1]
    assert len(weights) == len(tokens.ids)
    assert parse_weights("a (dog), b") == (tokenize("a (dog), b"), [1.0] * 77)


def test_weighted_features_keep_their_mean() -> None:
    features = torch.rand(2, 77, 8, generator=torch.Generator().manual_seed(0)) + 1
    weights = torch.ones(2, 77)
    weights[0, 3] = 1.4
    found = apply_weights(features, weights)
    assert torch.allclose(found.mean((1, 2)), features.mean((1, 2)))
    assert torch.allclose(found[1], features[1])
    ratio = (found[0] / features[0]).mean(1)
    assert torch.allclose(ratio[3] / ratio[4], torch.tensor(1.4))


@pytest.mark.parametrize(
    ("attacked", "original", "ratio"),
    [(value(0.0, 40), value(1.0, 40), 0), (value(1.0, 40), value(1.0, 40), 1),
     (value(0.3, 20), value(0.6, 20), 0.5), (value(0.9, 30), value(0.45, 30), 2)],
)  # fmt: skip
def test_recovered_is_a_ratio_within_its_interval(
    attacked: Estimate, original: Estimate, ratio: float
) -> None:
    found = recovery_ratio(attacked, original)
    assert found
    assert found.interval
    assert found.value == pytest.approx(ratio)
    assert found.value in found.interval
    assert found.interval.low < found.interval.high < math.inf


def test_recovereds_interval_is_that_of_the_rate_where_the_other_is_certain() -> None:
    attacked, certain = value(0.3, 50), Estimate(1.0, Interval(1.0, 1.0))
    found = recovery_ratio(attacked, certain)
    assert found
    assert found.interval
    assert attacked.interval
    assert found.interval.low == pytest.approx(attacked.interval.low)
    assert found.interval.high == pytest.approx(attacked.interval.high)


def test_recovereds_interval_holds_most_samples() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        p, q = rng.binomial(60, [0.35, 0.7]) / 60
        found = recovery_ratio(value(p, 60), value(q, 60))
        held += bool(found and found.interval and 0.5 in found.interval)
    assert held / 400 > 0.92


def test_nothing_is_recovered_of_what_the_original_may_never_draw() -> None:
    assert recovery_ratio(value(0.5, 20), value(0.0, 20)) is None


def test_the_lower_end_exists_where_the_original_is_uncertain() -> None:
    # an upper end that is exactly twice the rate leaves nothing to divide by
    found = recovery_ratio(Estimate(0.2, Interval(0.1, 0.4)), Estimate(0.3, Interval(0.1, 0.6)))
    assert found
    assert found.interval
    near = recovery_ratio(
        Estimate(0.2, Interval(0.1, 0.4)), Estimate(0.3, Interval(0.1, 0.6 - 1e-9))
    )
    assert near
    assert near.interval
    assert found.interval.low == pytest.approx(near.interval.low, abs=1e-6)


def test_likeness_goes_by_the_nearest_neighbour() -> None:
    groups = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[-1.0, 0.1]])]
    assert nearest_group(np.array([[0.1, 5.0], [-3.0, 0.0]]), groups) == [0, 1]


def test_the_sign_is_the_same_each_time_but_not_in_each_drawing() -> None:
    one, two = draw_control_pictures(3, 64), draw_control_pictures(2, 64)
    assert one.shape == (3, 64, 64, 3)
    assert (one[:2] == two).all()
    assert (one[0] != one[1]).any()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stress") / "base.safetensors"
    with demo.checkpoint() as file:
        path.symlink_to(file)
    return path


@pytest.fixture(scope="module")
def erased(base: Path) -> Path:
    """By the paper's settings, which leave the burden to the text encoder."""
    path = base.with_name("erased.safetensors")
    convert(load_recipe(Path("recipes/paper/snoopy.yaml")), base, path, Options(), lambda *_: None)
    return path


def test_a_weight_of_one_is_no_weight(base: Path) -> None:
    pipeline, _ = load_pipeline(base)
    with torch.inference_mode():
        embed = weighted_embedder(pipeline)
        plain, one, more = embed(["a dog in snow", "a (dog:1.0) in snow", "a (dog:1.4) in snow"])
        (theirs, _) = pipeline.encode_prompt("a dog in snow", pipeline.device, 1, False)
    assert torch.allclose(plain, theirs[0], atol=1e-5)
    assert torch.allclose(plain, one, atol=1e-5)
    assert not torch.allclose(plain, more, atol=1e-2)


def test_the_search_puts_the_word_that_means_it_first(base: Path) -> None:
    """Against itself, a model is led to an erased word by whatever changes it least."""
    model = LoadedModel(base)
    words = prefix.candidate_words(model.checkpoint, "snoopy", 1000)
    assert "snoopy" not in words
    assert {"peanuts", "dog", "cat"} <= set(words)
    assert prefix.candidate_words(model.checkpoint, "snoopy", 5) == words[:5]
    told: list[tuple[str, int, int]] = []
    context = snoopy_context(model, model, report=lambda *done: told.append(done))
    ranked = prefix.rank_words(context)
    assert sorted(ranked) == sorted(words[:40])
    assert told[-1] == ("searching words", 80, 80)
    assert prefix.rank_words(context) == ranked


def test_training_moves_one_embedding_and_repeats(base: Path) -> None:
    pipeline, _ = load_pipeline(base)
    table = pipeline.text_encoder.get_input_embeddings().weight
    before = table.clone()
    pictures = draw_control_pictures(4, 64)
    done: list[int] = []
    one, two, other = (
        inversion.train_embedding(pipeline, pictures, 2, seed, micro_batch, done.append)
        for seed, micro_batch in ((0, 16), (0, 8), (1, 16))
    )
    assert sum(done) == 3 * 2 * inversion.WORK_PER_STEP
    assert torch.allclose(one, two, atol=1e-3)
    assert not torch.equal(one, other)
    assert torch.equal(table, before)
    ids = torch.tensor([tokenize(WORD).ids])
    with torch.inference_mode():
        plain = pipeline.text_encoder(ids)[0]
        with replacing_word_embedding(pipeline.text_encoder, one):
            assert not torch.allclose(pipeline.text_encoder(ids)[0], plain, atol=1e-2)
        assert torch.equal(pipeline.text_encoder(ids)[0], plain)


def test_the_originals_text_encoder_undoes_the_papers_erasure(
    cli: Cli, base: Path, erased: Path, tmp_path: Path
) -> None:
    """Few steps and seeds: enough for what is as plain as this."""
    store, out, table = tmp_path / "store", tmp_path / "out.json", tmp_path / "out.csv"
    args = (
        "stress", "recipes/paper/snoopy.yaml", erased, "--base", base, "--seeds", 1, "--steps", 4,
        "--attack", "swap-te,ti", "--draw", "--ti-steps", 2, "--trials", 2, "--images", store,
    )  # fmt: skip
    ran = cli(*args, "--out", out, "--out", table)
    assert ran.code == 0
    assert "swap-te: original text encoder" in ran.out
    found = json.loads(out.read_text(encoding="utf-8"))
    rows = {(row["attack"], row["how"]): row["drawn"] for row in found["rows"]}
    assert rows["none", ""]["original"]["value"] > 0.8
    assert rows["none", ""]["erased"]["value"] < 0.2
    swap = rows["swap-te", "original text encoder"]
    assert swap["recovered"]["value"] > 0.7
    assert swap["recovered"]["interval"]["low"] > 0.3
    assert swap["original"] is None
    assert swap["control"]["value"] < 0.3
    taught = rows["ti", "trained on the sign"]
    assert (taught["wanted"], taught["recovered"]) == ("the sign", None)
    lines = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [line["attack"] for line in lines] == [row["attack"] for row in found["rows"]]
    assert float(lines[1]["recovered_low"]) == swap["recovered"]["interval"]["low"]

    pictures = {path: path.stat().st_mtime_ns for path in store.iterdir()}
    again = tmp_path / "again.json"
    assert cli(*args, "--out", again, "--quiet").out == ""
    assert again.read_text(encoding="utf-8") == out.read_text(encoding="utf-8")
    assert pictures == {path: path.stat().st_mtime_ns for path in store.iterdir()}


def test_the_results_lie_beside_the_output(
    cli: Cli, base: Path, erased: Path, tmp_path: Path
) -> None:
    """With all that an auditor asks for, and the same bytes each time."""
    out = tmp_path / "out.safetensors"
    out.symlink_to(erased)
    recipe = load_recipe(Path("recipes/paper/snoopy.yaml"))
    args = ("stress", "recipes/paper/snoopy.yaml", out, "--base", base, "--attack", "rece,swap-te")
    ran = cli(*args)
    assert ran.code == 0, ran.err
    results, table = tmp_path / "out.stress.json", tmp_path / "out.stress.csv"
    assert ran.out.endswith(f"wrote {results}, {table}\n")
    found = json.loads(results.read_text("utf-8"))
    files = read_manifest(erased.with_suffix(".manifest.json"))
    assert found["erased_sha256"] == files_digest([files.output.files[0].sha256])
    assert found["original_sha256"] == files_digest([str(files.input.files[0].sha256)])
    assert (found["recipe"], found["recipe_sha256"]) == (recipe.name, recipe.digest)
    assert found["concepts"] == {c.target: c.anchor for c in recipe.concepts}
    assert found["prompts"].keys() == found["concepts"].keys()
    for target, prompts in found["prompts"].items():
        assert all(target in prompt for prompt in prompts["measured"])
        assert prompts["drawn"] == []
    assert found["attacks"] == ["swap-te", "rece"]
    assert {*found["attacks"], *found["not_run"]} == {*ATTACKS}
    assert found["budgets"] == {"swap-te": {}, "rece": {}}
    assert found["drawing"] is None
    assert found["libraries"]["torch"] == torch.__version__
    assert str(tmp_path) not in results.read_text("utf-8")
    before = results.read_bytes()
    assert "exists already; --force replaces it" in cli(*args).err
    ran = cli(*args, "--force", "--json")
    assert ran.out.encode() == results.read_bytes() == before
    assert "swap-te: original text encoder" in ran.err


@pytest.mark.parametrize("draws", [False, True])
def test_every_attack_has_a_budget(draws: bool) -> None:
    found = budgets(Effort(steps=7, seeds=3, candidates=99), draws=draws)
    assert found.keys() == ATTACKS.keys()
    assert found["ti"]["steps"] == 7
    assert found["prefix"]["words_at_most"] == 99
    assert found["text-inversion"]["trial_seeds"] == ([0, 1, 2] if draws else [0])
    assert found["finetune"]["trial_seeds"] == [0, 1, 2]
    assert ("steps" in found["lora"]) == draws


def test_mistakes_are_named_before_anything_is_drawn(
    cli: Cli, base: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = "recipes/paper/snoopy.yaml"
    ran = cli("stress", recipe, base, "--base", base, "--out", tmp_path / "no" / "out.json")
    assert ran.code == 2
    assert "its folder does not exist" in ran.err
    ran = cli("stress", recipe, checkpoint_file, "--base", checkpoint_file)
    assert ran.code == CheckpointError.exit_code
    assert "U-Net widths" in ran.err


def test_a_model_that_nobody_can_judge_is_refused(
    cli: Cli, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_model, "DEMO", SD1)
    ran = cli("stress", "recipes/paper/snoopy.yaml", base, "--base", base, "--draw")
    assert ran.code == 2
    assert "give --clip FOLDER" in ran.err


def test_concepts_that_the_judge_cannot_see_are_named(cli: Cli, base: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\nname: x\nconcepts: [{target: elephant, anchor: dog}]\n", encoding="utf-8"
    )
    ran = cli("stress", recipe, base, "--base", base, "--attack", "swap-te", "--draw")
    assert ran.code == 0
    assert "elephant was left out: the demo judge can't see it" in ran.out


def test_every_attack_has_a_description_and_is_of_one_kind() -> None:
    assert ATTACKS.keys() == DESCRIPTIONS.keys() == {*ON_TEXT, *ON_PICTURES}
    assert not {*ON_TEXT} & {*ON_PICTURES}


@pytest.mark.parametrize("command", ["stress", "preview"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("--guidance", "nan"), ("--guidance", "inf"), ("--guidance", "-1"), ("--steps", "1001")],
)
def test_sampling_that_no_sampler_takes_is_refused_at_once(
    command: str, option: str, value: str, cli: Cli, tmp_path: Path
) -> None:
    recipe, erased, base = (tmp_path / name for name in ("recipe", "erased", "base"))
    for path in (recipe, erased, base):
        path.touch()  # Click asks for existing files first
    ran = cli(command, recipe, erased, "--base", base, option, value)
    assert ran.code == 2
    assert option in ran.err
    assert value in ran.err
