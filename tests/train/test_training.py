"""Gradient methods on the demo model, few steps: what one does, what it may touch, proof."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import mse_loss

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.erase.methods import ALGORITHMS
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.errors import LimitError, UsageError
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe import methods as registry
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.train import loop, methods, network
from erasepro_convert.train.methods import TrainingBatch
from erasepro_convert.train.network import Network
from erasepro_convert.train.resume import state_path
from erasepro_convert.verification.replay import verify_replay
from tests.conftest import Cli, copy_of_demo

pytestmark = pytest.mark.slow

METHODS = ("esd-x", "esd-u", "ac")


def silent(*_: object) -> None:
    """Report nothing."""


def recipe_of(method: str, **training: Any) -> Recipe:
    """Two steps where nothing else is said, at a rate that moves the demo model."""
    return Recipe.model_validate(
        {
            "version": 1,
            "name": "trained",
            "method": method,
            "concepts": [{"target": "snoopy", "anchor": "dog", "prompts": ["{}", "a {}"]}],
            "training": {"steps": 2, "learning_rate": 1e-3, **training},
        }
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_demo(tmp_path_factory.mktemp("train"))


@pytest.fixture(autouse=True)
def _short_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps to make latents in, not 50."""
    for module in (methods, network):
        monkeypatch.setattr(module, "SAMPLING_STEPS", 2)


@pytest.fixture(scope="module")
def outputs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """An output of each method, made once: its file and its manifest."""
    folder, made = tmp_path_factory.mktemp("outputs"), {}

    def output(method: str) -> tuple[Path, Manifest]:
        if method not in made:
            target = folder / f"{method}.safetensors"
            made[method] = target, convert(recipe_of(method), base, target, Options(), silent)
        return made[method]

    return output


def network_of(base: Path, recipe: Recipe, clip_skip: int = 1) -> Network:
    from erasepro_convert.sd1.unet import unet_keys

    source = open_sd1_checkpoint(base)
    keys = {key.original: key.diffusers for key in unet_keys(source.layout.widths)}
    names = edited_tensors(recipe, source.layout.widths)
    return Network(*load_pipeline(base), [keys[name] for name in names], clip_skip)


def test_every_method_has_its_one_function() -> None:
    """A row of the registry is solved by an algorithm or trained by a training method."""
    assert tuple(ALGORITHMS) == registry.SOLVED
    assert tuple(methods.METHODS) == registry.TRAINED == METHODS
    assert {*registry.SOLVED, *registry.TRAINED} == registry.METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_trained_changes(
    base: Path, outputs: Callable[[str], Any], method: str
) -> None:
    path, manifest = outputs(method)
    before, after = load_file(base), load_file(path)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {edit.name for edit in manifest.all_edits if edit.update_norm}
    expected = {
        "esd-x": {name for name in before if ".attn2." in name},
        # where a latent is a single position, there is nothing to attend to
        "esd-u": {
            name
            for name in before
            if name.startswith("model.diffusion_model.")
            and "attn2" not in name
            and not re.search(r"middle_block.*attn1\.to_[qk]", name)
        },
        "ac": {n for n in before if ".attn2.to_k." in n or ".attn2.to_v." in n},
    }
    assert changed == expected[method]
    assert len(manifest.edits) == (0 if method == "esd-u" else 32)
    assert manifest.trained
    assert len(manifest.trained.losses) == 2
    assert not state_path(path).exists()


def test_esds_goal_and_step_by_hand(base: Path) -> None:
    """η = 2: plain − 2·(named − plain), of the original, and Adam's first step: rate·sign."""
    recipe = recipe_of("esd-x", guidance=2.0, batch=2)
    assert recipe.training
    net = network_of(base, recipe)
    batch = methods.esd(net, recipe, recipe.training, [], silent)(0)
    pipeline, _ = load_pipeline(base)
    states = pipeline.text_encoder(
        pipeline.tokenizer(
            ["", batch.prompts[0]], padding="max_length", return_tensors="pt"
        ).input_ids
    )[0].detach()

    def predict(state: torch.Tensor) -> Any:
        both = torch.stack([state, state])
        return pipeline.unet(batch.latents, batch.times, both).sample

    with torch.no_grad():
        plain, named = predict(states[0]), predict(states[1])
    goal = plain - 2 * (named - plain)
    assert torch.allclose(batch.goal, goal, atol=1e-4)
    weight = pipeline.unet.up_blocks[3].attentions[2].transformer_blocks[0].attn2.to_k.weight
    loss = mse_loss(predict(states[1]), goal)
    loss.backward()
    optimiser = torch.optim.Adam(net.trained.values(), 1e-3)
    assert loop.take_step(net, batch, optimiser) == pytest.approx(loss.item(), rel=1e-4)
    name = "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight"
    step = net.trained[name].detach() - weight.detach()
    certain = weight.grad.abs() > weight.grad.abs().mean()
    assert torch.allclose(step[certain], -1e-3 * weight.grad[certain].sign(), atol=1e-5)


def test_the_originals_predictions_do_not_move_with_training(base: Path) -> None:
    recipe = recipe_of("esd-u")
    assert recipe.training
    net = network_of(base, recipe)
    latents, times = net.draw_noise(1, torch.Generator().manual_seed(0)), torch.tensor([500])
    with net.original():
        before = net.predict(latents, times, ["a dog"])
    batch = methods.esd(net, recipe, recipe.training, [], silent)(0)
    loop.take_step(net, batch, torch.optim.Adam(net.trained.values(), 1e-3))
    with net.original():
        assert torch.equal(net.predict(latents, times, ["a dog"]), before)
    with torch.no_grad():
        assert not torch.equal(net.predict(latents, times, ["a dog"]), before)


def test_acs_goal_is_the_anchors_prediction_of_the_network_as_it_is(base: Path) -> None:
    recipe = recipe_of("ac", batch=3)
    assert recipe.training
    net = network_of(base, recipe)
    make_batch = methods.ac(net, recipe, recipe.training, [], silent)
    loop.take_step(net, make_batch(0), torch.optim.AdamW(net.trained.values(), 1e-2))
    batch = make_batch(1)
    anchors = [prompt.replace("snoopy", "dog") for prompt in batch.prompts]
    with torch.no_grad():
        now = net.predict(batch.latents, batch.times, anchors)
    assert torch.equal(batch.goal, now)
    with net.original():
        first = net.predict(batch.latents, batch.times, anchors)
    assert not torch.allclose(batch.goal, first)
    assert {"snoopy", "a snoopy"} >= set(batch.prompts)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(base: Path) -> None:
    recipe, found = recipe_of("ac", batch=4), []
    assert recipe.training
    for size in (64, 1):
        net = network_of(base, recipe)
        batch = methods.ac(net, recipe, recipe.training, [], silent)(0)
        net.micro_batch_size = size
        loop.take_step(net, batch, torch.optim.SGD(net.trained.values(), 1.0))
        found.append(torch.cat([p.detach().flatten() for p in net.trained.values()]))
    assert torch.allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_recipe_gives_the_same_bytes_and_going_on_gives_them_too(
    base: Path, outputs: Callable[[str], Any], tmp_path: Path, method: str
) -> None:
    target = tmp_path / "again.safetensors"

    def interrupted(stage: str, done: int, total: int) -> None:
        if stage.startswith("train") and "anchors" not in stage and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(recipe_of(method), base, target, Options(), interrupted)
    assert not target.exists()
    assert state_path(target).exists()
    steps = []

    def noted(stage: str, done: int, total: int) -> None:
        if stage.startswith("train") and "anchors" not in stage:
            steps.append(done)

    manifest = convert(recipe_of(method), base, target, Options(), noted)
    assert steps[0] == 1, "the first step is not done again"
    assert load_of(target) == load_of(outputs(method)[0])
    assert manifest.trained == outputs(method)[1].trained
    assert not state_path(target).exists()


def test_anchors_that_are_drawn_are_not_drawn_again(base: Path, tmp_path: Path) -> None:
    recipe = recipe_of("ac", steps=1, batch=20)
    whole, target = tmp_path / "whole.safetensors", tmp_path / "again.safetensors"

    def anchors_of(target: Path, until: int) -> list[int]:
        found = []

        def note(stage: str, done: int, total: int) -> None:
            if "anchors" in stage:
                found.append(done)
                if done == until:
                    raise KeyboardInterrupt

        convert(recipe, base, target, Options(), note)
        return list(dict.fromkeys(found))

    first, second, *rest = anchors_of(whole, -1)
    assert first == 0
    with pytest.raises(KeyboardInterrupt):
        anchors_of(target, second)
    assert anchors_of(target, -1) == [second, *rest]
    assert load_of(target) == load_of(whole)


def load_of(path: Path) -> dict[str, bytes]:
    return {
        n: t.contiguous().view(torch.uint8).numpy().tobytes() for n, t in load_file(path).items()
    }


def test_the_state_of_another_training_is_not_gone_on_with(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"

    def interrupted(stage: str, done: int, total: int) -> None:
        if stage.startswith("train") and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(recipe_of("esd-x"), base, target, Options(), interrupted)
    steps = []
    convert(
        recipe_of("esd-x", seed=1), base, target, Options(),
        lambda stage, done, total: steps.append(done) if stage.startswith("train") else None,
    )  # fmt: skip
    assert steps[0] == 0


def test_a_refused_result_is_not_trained_again(base: Path, tmp_path: Path) -> None:
    target, steps = tmp_path / "out.safetensors", []
    strict = recipe_of("esd-x").changed(limits={"relative_update": 1e-9})
    with pytest.raises(LimitError, match="times its norm"):
        convert(strict, base, target, Options(), silent)
    assert not target.exists()
    convert(
        recipe_of("esd-x"), base, target, Options(),
        lambda stage, done, total: steps.append(done) if stage.startswith("train") else None,
    )  # fmt: skip
    assert steps == [2], "all is done"


def test_a_state_that_is_none_is_named(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    state_path(target).write_bytes(b"x" * 99)
    with pytest.raises(
        UsageError, match=r"out\.training\.safetensors: not the state of a training"
    ):
        convert(recipe_of("esd-x"), base, target, Options(), silent)


def test_a_file_that_no_training_wrote_is_left_alone(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    shutil.copyfile(base, state_path(target))
    with pytest.raises(UsageError, match="not the state of a training"):
        convert(recipe_of("esd-x"), base, target, Options(), silent)
    assert state_path(target).read_bytes() == base.read_bytes()


def test_clip_skip_2_trains_for_the_layer_before_the_last(base: Path) -> None:
    recipe = recipe_of("esd-x")
    last, before = (network_of(base, recipe, skip) for skip in (1, 2))
    encoder = load_pipeline(base)[0].text_encoder
    ids = torch.tensor([tokenize("a dog").ids])
    with torch.no_grad():
        out = encoder(ids, output_hidden_states=True)
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        assert torch.allclose(last.encode("a dog"), out.last_hidden_state, atol=1e-6)
        assert torch.allclose(before.encode("a dog"), norm(out.hidden_states[-2]), atol=1e-6)
        assert not torch.allclose(before.encode("a dog"), last.encode("a dog"), atol=1e-2)


def test_an_interrupt_does_not_wait_for_a_step(base: Path, tmp_path: Path) -> None:
    calls = 0

    def interrupted(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += stage.startswith("train")
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(recipe_of("esd-x"), base, tmp_path / "out.safetensors", Options(), interrupted)
    assert not list(tmp_path.iterdir()), "no step was done"


def test_training_that_diverges_is_refused(base: Path, tmp_path: Path) -> None:
    recipe = recipe_of("esd-x", learning_rate=1e30, steps=3)
    with pytest.raises(LimitError, match=r"lower training\.learning_rate"):
        convert(recipe, base, tmp_path / "out.safetensors", Options(), silent)


@pytest.mark.parametrize("method", ["esd-x", "esd-u"])
def test_verification_and_report(
    base: Path, outputs: Callable[[str], Any], cli: Cli, tmp_path: Path, method: str
) -> None:
    made, _ = outputs(method)
    path = tmp_path / "out.safetensors"
    for suffix in (".safetensors", ".manifest.json"):
        shutil.copyfile(made.with_suffix(suffix), path.with_suffix(suffix))
    ran = cli("verify", path, "--base", base, "--replay")
    assert ran.code == 0, ran.out
    assert "trained" in ran.out
    assert cli("report", path.with_suffix(".manifest.json")).code == 0
    assert "Trained in 2 steps on cpu" in path.with_suffix(".html").read_text("utf-8")
    record = json.loads(path.with_suffix(".manifest.json").read_text("utf-8"))
    record["trained"]["changes"][0]["update_norm"] *= 1.01
    manifest = Manifest.model_validate_json(json.dumps(record)).sealed()
    path.with_suffix(".manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    ran = cli("verify", path, "--base", base)
    assert ran.code == 5
    assert "update_norm" in ran.out


def test_a_replay_bears_rounding_and_no_other_training(
    base: Path, outputs: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, manifest = outputs("esd-x")
    noise = Network.draw_noise

    def deviations(**changed: Any) -> list[str]:
        recorded = manifest.model_copy(update=changed)
        return [finding.name for finding in verify_replay(recorded, base, None, silent)]

    def rounded(self: Network, count: int, generator: torch.Generator) -> torch.Tensor:
        return noise(self, count, generator) * (1 + 1e-5)

    with monkeypatch.context() as other_processor:
        other_processor.setattr(Network, "draw_noise", rounded)
        assert deviations() == []
    assert manifest.trained
    losses = (manifest.trained.losses[0] * 1.4, manifest.trained.losses[1])
    other = manifest.trained.model_copy(update={"losses": losses})
    assert deviations(trained=other) == ["loss of the first step"]
    assert deviations(recipe=recipe_of("esd-x", steps=4)) == ["update_norm of all that is trained"]


def test_the_summary_has_losses_and_leaves_the_verdict_to_pictures(
    base: Path, cli: Cli, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "version: 1\nname: trained\nmethod: esd-u\nconcepts: [{target: snoopy, anchor: dog}]\n"
        "training: {steps: 1, learning_rate: 1.0e-3}\n",
        encoding="utf-8",
    )
    ran = cli("--details", recipe, base, tmp_path / "out.safetensors")
    assert ran.code == 0, ran.err
    assert "tensors trained in 1 step on cpu; loss " in ran.out
    assert "only pictures tell: see evaluate" in ran.out


def test_what_training_has_no_answer_to(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match="it edits no EMA copy"):
        convert(recipe_of("ac"), base, target, Options(ema="convert"), silent)


def test_batches_are_split_whole() -> None:
    n = torch.arange(5)
    batch = TrainingBatch(n, n, tuple("abcde"), n)
    parts = list(batch.split(2))
    assert [len(part.latents) for part in parts] == [2, 2, 1]
    assert "".join("".join(part.prompts) for part in parts) == "abcde"
