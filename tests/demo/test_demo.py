"""The demo model: what ships, what it draws, and that a recipe of each kind erases from it."""

import json
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from erasepro_convert import demo
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import Prompt, load_classifier, prompts
from erasepro_convert.images import preview
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import load_recipe
from erasepro_convert.sd1.architecture import architecture_of
from erasepro_convert.sd1.keys import SD1, text_keys
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys
from tests.conftest import Cli
from tests.miniature import State, state_dict

pytestmark = pytest.mark.slow

FOLDER = Path(demo.__file__).parent
SAMPLING = Sampling(steps=8, guidance=4)
"""Few steps, which leave the rates far from their bounds nevertheless."""


@pytest.fixture(scope="module")
def shipped() -> State:
    with demo.checkpoint() as file:
        return load_file(file)


def test_it_has_the_keys_ranks_and_dtypes_of_a_full_size_file(shipped: State) -> None:
    rest = {name for name in state_dict() if not name.startswith(("model.", "first_", "cond_"))}
    full = {key.original: key.shape for key in chain(unet_keys(SD1), vae_keys(SD1), text_keys(SD1))}
    position_ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    assert set(shipped) == set(full) | rest | {position_ids}
    for name, shape in full.items():
        assert shipped[name].ndim == len(shape)
        assert shipped[name].dtype == torch.float16
        assert torch.isfinite(shipped[name]).all()
    assert shipped[position_ids].dtype == torch.int64


def test_it_is_small_and_knows_only_its_words(shipped: State) -> None:
    table = shipped["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    assert 100 < table.any(dim=1).sum() < 1000
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 40e6


def test_the_judge_knew_unseen_drawings() -> None:
    assert all(rate >= 0.98 for rate in load_classifier().accuracy.values())


def test_the_judge_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="3×64×64"):
        load_classifier().classify(torch.zeros(1, 3, 32, 32))


def test_every_prompt_asks_for_something_that_the_judge_knows() -> None:
    heads = load_classifier().heads
    for prompt in prompts():
        assert prompt.concept in heads[prompt.head]
    named = {(p.head, p.concept) for p in prompts() if p.role == "explicit"}
    assert {concept for head, concept in named if head == "thing"} == set(heads["thing"])
    assert {concept for head, concept in named if head == "style"} == set(heads["style"][1:])


def draw(checkpoint: Path, asked: Iterable[Prompt]) -> Tensor:
    """A picture a prompt, in 0…1; the seed is the prompt's number."""
    pipeline, architecture = load_pipeline(checkpoint)
    jobs = [SeededPrompt(prompt.prompt, prompts().index(prompt)) for prompt in asked]
    with torch.inference_mode():
        return generate(pipeline, architecture, jobs, SAMPLING, lambda _: None) / 255


DRAWN: dict[Prompt, Tensor] = {}
"""What the demo model draws before any erasure; several tests ask for the same."""


def drawn_by_the_demo(asked: tuple[Prompt, ...]) -> Tensor:
    missing = [prompt for prompt in dict.fromkeys(asked) if prompt not in DRAWN]
    if missing:
        with demo.checkpoint() as file:
            DRAWN.update(zip(missing, draw(file, missing), strict=True))
    return torch.stack([DRAWN[prompt] for prompt in asked])


def rate(pictures: Tensor, asked: tuple[Prompt, ...]) -> float:
    """The share of pictures that show their prompts' concepts."""
    seen = load_classifier().classify(pictures)
    hits = [seen[p.head][i] == p.concept for i, p in enumerate(asked)]
    return sum(hits) / len(hits)


def select(count: int, role: str = "explicit", **wanted: object) -> tuple[Prompt, ...]:
    """The first prompts of each concept that fit, concepts by turns."""
    fitting = [
        p
        for p in prompts()
        if p.role == role and all(getattr(p, k) == v for k, v in wanted.items())
    ]
    concepts = list(dict.fromkeys(p.concept for p in fitting))
    turns = [[p for p in fitting if p.concept == concept] for concept in concepts]
    ordered = [part[i] for i in range(max(map(len, turns))) for part in turns if i < len(part)]
    return tuple(ordered[:count])


@pytest.mark.parametrize("head", ["thing", "style", "attribute", "colour"])
def test_it_draws_what_prompts_ask_for(head: str) -> None:
    """A small sample; tools/demo_model/README.md has the measured rates."""
    asked = select(24, head=head)
    assert rate(drawn_by_the_demo(asked), asked) >= 0.85


@pytest.mark.parametrize(
    ("recipe", "concept"),
    [
        ("recipes/demo/snoopy.yaml", "snoopy"),
        ("recipes/artists/van-gogh.yaml", "Van Gogh"),
        ("recipes/demo/burning.yaml", "burning"),
        ("recipes/demo/no-fire.yaml", "burning"),
    ],
)
def test_a_recipe_of_each_kind_erases_its_target_only(
    recipe: str, concept: str, tmp_path: Path
) -> None:
    target = select(10, concept=concept)
    others = tuple(
        p
        for head in ("thing", "style", "colour", "attribute")
        for p in select(30, head=head)[::2]
        if p.concept != concept
    )
    erased = tmp_path / "erased.safetensors"
    with demo.checkpoint() as file:
        convert(load_recipe(Path(recipe)), file, erased, Options(), lambda *_: None)
    before, after = drawn_by_the_demo(target + others), draw(erased, target + others)
    count = len(target)
    assert rate(before[:count], target) >= 0.8
    assert rate(after[:count], target) <= 0.1
    assert rate(after[count:], others) >= rate(before[count:], others) - 0.1


def test_the_demo_command_shows_what_it_does(cli: Cli, tmp_path: Path) -> None:
    folder, precious = tmp_path / "a demo", tmp_path / "precious.json"
    precious.write_text("somebody's", encoding="utf-8")
    (folder / "diffusers").mkdir(parents=True)
    (folder / "diffusers" / "model_index.json").symlink_to(precious)
    ran = cli("demo", folder)
    assert ran.code == 2
    assert f"{folder}/diffusers/model_index.json: exists already; --force replaces it" in ran.err
    ran = cli("demo", folder, "--force")
    assert ran.code == 0
    assert f"$ erasepro-convert '{folder}/recipe.yaml' " in ran.out
    assert f"$ erasepro-convert preview '{folder}/erased.safetensors' " in ran.out
    assert (folder / "erased.manifest.json").exists()
    with Image.open(folder / "before-after.png") as picture:
        assert picture.width > 2 * 4 * 96
    index = folder / "diffusers" / "model_index.json"
    assert json.loads(index.read_text("utf-8"))["_class_name"] == "StableDiffusionPipeline"
    assert precious.read_text("utf-8") == "somebody's", "a link is replaced and not followed"


@pytest.mark.parametrize("folder_in_the_way", ["before-after.png", "diffusers/unet/config.json"])
def test_the_demo_refuses_before_any_work_what_it_could_not_replace(
    cli: Cli, tmp_path: Path, folder_in_the_way: str
) -> None:
    (tmp_path / folder_in_the_way).mkdir(parents=True)
    ran = cli("demo", tmp_path)
    assert ran.code == 2
    assert f"{folder_in_the_way}: this is a folder" in ran.err
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_the_demo_refuses_a_file_where_it_writes_configurations(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "diffusers").write_text("somebody's", encoding="utf-8")
    ran = cli("demo", tmp_path)
    assert ran.code == 2
    assert "diffusers: this is a file" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["diffusers"]


def test_a_preview_is_the_same_each_time(cli: Cli, tmp_path: Path) -> None:
    with demo.checkpoint() as file:
        for name in ("one", "two"):
            ran = cli(
                "preview", file, "--base", file, "--recipe", "van-gogh",
                "--out", tmp_path / f"{name}.png", "--seeds", 1, "--steps", 2,
            )  # fmt: skip
            assert ran.code == 0
            assert f"wrote {tmp_path}" in ran.out
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_preview_is_timed_by_some_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(preview, "monotonic", lambda: next(ticks))
    with demo.checkpoint() as file:
        seconds = preview.time_preview("snoopy", file)
        demos = architecture_of(open_sd1_checkpoint(file).layout.widths)
        assert preview.plan_preview("snoopy", file).pictures < demos.batch
    assert seconds - 1 in (demos.steps, demos.steps + 1), "a second for each step, and to decode"


def test_a_preview_refuses_what_makes_no_pictures(
    cli: Cli, checkpoint_file: Path, van_gogh: Path, tmp_path: Path
) -> None:
    ran = cli("preview", checkpoint_file, "--base", checkpoint_file, "--recipe", van_gogh)
    assert ran.code == 4
    assert "U-Net widths 32/64/96/96" in ran.err
    ran = cli(
        "preview", checkpoint_file, "--base", checkpoint_file, "--recipe", van_gogh,
        "--out", tmp_path / "no" / "such.png",
    )  # fmt: skip
    assert ran.code == 2
    assert not list(tmp_path.glob("*.png"))
