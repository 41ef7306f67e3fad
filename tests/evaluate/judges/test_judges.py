"""Judges of pictures: against transformers, by hand, and what is said where one is not there."""

import hashlib
import json
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from erasepro_convert.attacks.zero_shot import ZeroShot
from erasepro_convert.clip.hf_tokenizer import clip_tokenizer
from erasepro_convert.demo import load_classifier
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import ModelName, Pictures
from erasepro_convert.evaluate.judges import NO_CLIP, NO_FEATURES, NO_NUDENET, find_judges
from erasepro_convert.evaluate.judges.clip import ClipJudge, concept_text, prompt_text
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures, Preprocessor
from erasepro_convert.evaluate.judges.demo import DemoFeatures
from erasepro_convert.evaluate.judges.distance import DistanceJudge
from erasepro_convert.evaluate.judges.inception import InceptionFeatures
from erasepro_convert.evaluate.judges.nudity import PARTS, TOTAL, NudityJudge
from erasepro_convert.evaluate.judges.share_metric import share_metric
from erasepro_convert.evaluate.metrics.kid_fid import Array, fid, kid, kid_paired
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest
from erasepro_convert.evaluate.results import Metric
from erasepro_convert.evaluate.run import DrawnPictures

SEEDS, GUIDANCE = 3, 7.5
SIZE = 64
TARGETS = [f"{words} by Van Gogh" for words in ("a field", "a river", "a church", "a street")]
OTHERS = [("dog", "a dog"), ("Monet", "a lake by Monet"), ("cat", "a cat"), ("car", "two cars")]


def asked() -> list[EvalPrompt]:
    own = [EvalPrompt("Van Gogh", "artist", "target", p, f"vg-{i}") for i, p in enumerate(TARGETS)]
    anchors = [
        replace(
            one,
            role="anchor",
            prompt=one.prompt.replace("Van Gogh", "artist"),
            prompt_id=f"{one.prompt_id}-anchor",
        )
        for one in own
    ]
    others = [EvalPrompt(concept, "", "other", p, f"o-{p}") for concept, p in OTHERS]
    return [*own, *anchors, *others]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> DrawnPictures:
    """Random blots; those of the erased model are other ones where the target was asked for."""
    folder = tmp_path_factory.mktemp("store")
    generator = np.random.default_rng(0)
    paths: dict[ModelName, dict[ImageRequest, Path]] = {"original": {}, "erased": {}}
    for one in asked():
        for seed, request in enumerate(one.requests(SEEDS, GUIDANCE)):
            blots = generator.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
            for model, blot in zip(("original", "erased"), blots, strict=True):
                path = folder / f"{model}-{one.prompt}-{seed}.png"
                drawn = blots[0] if one.role == "other" and seed else blot
                Image.fromarray(drawn).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path)
                paths["original" if model == "original" else "erased"][request] = path
    return DrawnPictures(asked(), (("Van Gogh", "artist"),), paths, SEEDS, GUIDANCE)


def request(prompt: str, seed: int) -> ImageRequest:
    return ImageRequest(prompt, seed, GUIDANCE)


def pictures(gallery: DrawnPictures, model: ModelName, role: str) -> Pictures:
    found = (
        gallery(model, None, "other")
        if role == "other"
        else gallery(model, "Van Gogh", "anchor" if role == "anchor" else "target")
    )
    assert found is not None
    return found


def by_column(figures: Sequence[Metric]) -> dict[str, Metric]:
    found = {figure.column: figure for figure in figures}
    assert len(found) == len(figures)
    return found


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, in OpenAI's layout."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(13)  # at which neither text is always the nearer one
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    text_config = {**small, "num_attention_heads": 2, "eos_token_id": 49407, "bos_token_id": 49406}
    vision_config = {**small, "num_attention_heads": 2, "image_size": 48, "patch_size": 16}
    model = CLIPModel(
        CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=12)
    )
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.4)
    model.save_pretrained(folder)
    preparation = {
        "crop_size": {"height": 48, "width": 48},
        "size": {"shortest_edge": 56},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return folder


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> ClipFeatures:
    return ClipFeatures(clip_folder)


@pytest.fixture(scope="module")
def cosines(clip_folder: Path) -> Callable[[Pictures, Sequence[str]], Array]:
    """Of every picture (rows) with every text, by transformers' own forward."""
    model = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    prepare = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)

    def of(pictures: Pictures, texts: Sequence[str]) -> Array:
        seen = prepare([Image.open(path) for path in pictures.paths], return_tensors="pt")
        said = clip_tokenizer()(list(texts), padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**seen, **said).logits_per_image
        found: Array = (logits / model.logit_scale.exp()).double().detach().numpy()
        return found

    return of


@pytest.mark.parametrize("size", [(64, 64), (80, 57), (57, 80), (49, 200), (56, 56)])
def test_pictures_are_prepared_as_transformers_does(
    clip_folder: Path, size: tuple[int, int]
) -> None:
    config = json.loads((clip_folder / "preprocessor_config.json").read_text())
    theirs = transformers.CLIPImageProcessorPil.from_pretrained(clip_folder)
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    expected = theirs(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(Preprocessor.from_config(config)(picture), expected, atol=2e-6)


@pytest.mark.parametrize("config", [{}, {"size": 224, "crop_size": 224}])
def test_without_a_configuration_preparation_is_openais(config: dict[str, int]) -> None:
    picture = Image.effect_mandelbrot((256, 256), (-2, -1, 1, 1), 20).convert("RGB")
    expected = transformers.CLIPImageProcessorPil()(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(Preprocessor.from_config(config)(picture), expected, atol=2e-6)


@pytest.mark.slow
def test_clip_scores_are_those_of_transformers(
    gallery: DrawnPictures, clip: ClipFeatures, cosines: Callable[[Pictures, Sequence[str]], Array]
) -> None:
    found = by_column(ClipJudge(clip).metrics(gallery))
    assert list(found) == ["CLIP score A", "CLIP score T", "CLIP ACC", "CLIP score O"]
    texts = ["A photo depicts Van Gogh style", "A photo depicts artist style"]
    hits = []
    for model in ("original", "erased"):
        scores = 2.5 * np.maximum(cosines(pictures(gallery, model, "target"), texts), 0)
        hits.append(scores[:, 0] > scores[:, 1])
        for column, mine in zip(("CLIP score T", "CLIP score A"), scores.T, strict=True):
            value = getattr(found[column], model)
            assert value.value == pytest.approx(mine.mean(), abs=1e-5)
            assert value.value in value.interval
        assert getattr(found["CLIP ACC"], model).value == pytest.approx(hits[-1].mean())
    assert 0 < hits[1].mean() < 1
    change = found["CLIP ACC"].difference
    assert change is not None
    assert change.value == pytest.approx(hits[1].mean() - hits[0].mean())
    by_prompt = scores.reshape(len(TARGETS), SEEDS, 2).mean(1)
    assert found["CLIP score T"].worst == TARGETS[int(by_prompt[:, 0].argmax())]
    assert found["CLIP score A"].worst == TARGETS[int(by_prompt[:, 1].argmin())]
    assert found["CLIP score A"].worst_value == pytest.approx(by_prompt[:, 1].min(), abs=1e-5)
    others = pictures(gallery, "erased", "other")
    own = ["A photo depicts dog", "A photo depicts Monet style"]
    own += ["A photo depicts cat", "A photo depicts car"]
    all_pairs = cosines(others, own).reshape(len(OTHERS), SEEDS, len(own))
    mine = 2.5 * np.maximum([all_pairs[i, :, i] for i in range(len(own))], 0)
    assert found["CLIP score O"].erased.value == pytest.approx(mine.mean(), abs=1e-5)
    assert found["CLIP score O"].concept is None


@pytest.mark.slow
def test_clip_says_nothing_of_an_empty_anchor(gallery: DrawnPictures, clip: ClipFeatures) -> None:
    figures = ClipJudge(clip).metrics(replace(gallery, pairs=(("Van Gogh", ""),)))
    assert [figure.column for figure in figures] == ["CLIP score T", "CLIP score O"]


def test_texts_of_things_and_styles() -> None:
    assert concept_text("snoopy", style=False) == "A photo depicts snoopy"
    assert concept_text("pop art style", style=True) == "A photo depicts pop art style"
    of = partial(EvalPrompt, role="other", prompt_id="")
    assert prompt_text(of("Monet", "painter", prompt="x")) == "A photo depicts Monet style"
    assert prompt_text(of("Monet", "", prompt="in the style of monet")).endswith("Monet style")
    assert prompt_text(of("dog", "", prompt="a dog by a tree")) == "A photo depicts dog"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_digest_is_that_of_the_weights_that_are_read(
    clip_folder: Path, clip: ClipFeatures, gallery: DrawnPictures, tmp_path: Path, name: str
) -> None:
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    settings = (clip_folder / "preprocessor_config.json").read_bytes()
    (tmp_path / "preprocessor_config.json").write_bytes(settings)
    if name.endswith(".bin"):
        torch.save(CLIPModel.from_pretrained(clip_folder).state_dict(), tmp_path / name)
    else:
        (tmp_path / name).write_bytes((clip_folder / name).read_bytes())
    mine, paths = ClipFeatures(tmp_path), pictures(gallery, "erased", "target").paths
    assert mine.digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    np.testing.assert_array_equal(mine.compute(paths), clip.compute(paths))


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def another_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "siglip"}')


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08" + 63 * b"\0")


def a_weight_less(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "damage", [damage_config, another_model, no_weights, damage_weights, a_weight_less]
)
def test_a_folder_without_such_a_clip_is_refused(
    clip_folder: Path, gallery: DrawnPictures, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damage(tmp_path)
    with pytest.raises(UsageError, match=str(tmp_path)):
        ClipFeatures(tmp_path).compute(pictures(gallery, "erased", "target").paths)


@pytest.mark.slow
def test_what_clip_sees_under_attack_is_what_its_accuracy_counts(
    gallery: DrawnPictures, clip_folder: Path
) -> None:
    features = ClipFeatures(clip_folder)
    sight = ZeroShot(features, {"Van Gogh": "artist"})
    assert sight.knows("Van Gogh")
    assert not sight.knows("Monet")
    seen = by_column(ClipJudge(features).metrics(gallery))["CLIP ACC"]
    hits = sight.hits("Van Gogh", pictures(gallery, "erased", "target").pixels())
    assert 0 < sum(hits) < len(hits)
    assert sum(hits) / len(hits) == seen.erased.value


def test_a_file_that_is_no_picture_is_named(gallery: DrawnPictures, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    whole = gallery.paths["original"][request(TARGETS[0], 0)].read_bytes()
    for content in (b"", whole[:60], whole[:-40]):
        broken.write_bytes(content)
        with pytest.raises(UsageError, match=r"broken\.png: not a picture"):
            DemoFeatures().compute([broken])


def test_demo_features_are_what_the_demos_judge_decides_by(gallery: DrawnPictures) -> None:
    side = pictures(gallery, "erased", "target")
    features = DemoFeatures().compute(side.paths)
    assert features.shape == (len(side.paths), 640)
    judge = load_classifier()
    logits = judge.last(torch.from_numpy(features).float())
    head = next(iter(judge.heads))
    classes = judge.heads[head]
    seen = judge.classify(torch.from_numpy(side.pixels()).permute(0, 3, 1, 2) / 255)[head]
    assert [classes[i] for i in logits[:, : len(classes)].argmax(1).tolist()] == seen


def test_distances_are_those_of_the_features(gallery: DrawnPictures) -> None:
    features = DemoFeatures()
    judge = DistanceJudge(features)
    assert judge.name == "KID and FID on demo features"
    found = by_column(judge.metrics(gallery))
    assert list(found) == ["KID A", "KID T", "KIDp T", "KID O", "KIDp O", "FID O"]
    rows = {
        (model, role): features.compute(pictures(gallery, model, role).paths)
        for model in ("original", "erased")
        for role in ("target", "anchor", "other")
    }
    before, after = rows["original", "target"], rows["erased", "target"]
    anchor = rows["original", "anchor"]
    a = found["KID A"]
    assert a.original is not None
    assert a.difference is not None
    assert (a.original.value, a.erased.value) == (kid(before, anchor), kid(after, anchor))
    assert a.difference.value == a.erased.value - a.original.value
    others = rows["original", "other"], rows["erased", "other"]
    expected = {
        "KID T": (kid(before, before), kid(after, before)),
        "KIDp T": (0.0, kid_paired(after, before)),
        "KID O": (kid(others[0], others[0]), kid(others[1], others[0])),
        "KIDp O": (0.0, kid_paired(others[1], others[0])),
        "FID O": (pytest.approx(0, abs=1e-9), fid(others[1], others[0])),
    }
    for column, (original, erased) in expected.items():
        figure = found[column]
        assert figure.original is not None
        assert figure.original.value == original
        assert figure.erased.value == pytest.approx(erased, rel=1e-12)
        assert figure.difference is None
        assert figure.erased.interval is not None
        assert figure.erased.value in figure.erased.interval
        assert figure.better == ("higher" if column.endswith("T") else "lower")
        assert (figure.images, figure.prompts) == (12, 4)
    assert kid(before, before) < 0, "the paper's small negatives"


def test_a_model_that_did_not_change_has_a_distance_of_nothing(gallery: DrawnPictures) -> None:
    same = replace(gallery, paths=dict.fromkeys(gallery.paths, gallery.paths["original"]))
    found = by_column(DistanceJudge(DemoFeatures()).metrics(same))
    for name in ("KIDp T", "KIDp O"):
        assert found[name].erased.value == 0
    for figure in found.values():
        assert figure.original is not None
        assert figure.erased.value == figure.original.value


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "seeds"), [(1, 1), (1, 2), (2, 1)])
def test_few_pictures_have_figures_without_intervals(
    gallery: DrawnPictures, clip: ClipFeatures, prompts: int, seeds: int
) -> None:
    kept = {*TARGETS[:prompts], *(p.replace("Van Gogh", "artist") for p in TARGETS[:prompts])}
    few = replace(gallery, prompts=[one for one in asked() if one.prompt in kept], seeds=seeds)
    distances = DistanceJudge(DemoFeatures()).metrics(few)
    assert len(distances) == (0 if prompts * seeds == 1 else 3)
    assert all(figure.erased.interval is None for figure in distances)
    scores = by_column(ClipJudge(clip).metrics(few))
    assert list(scores) == ["CLIP score A", "CLIP score T", "CLIP ACC"]
    alone = prompts * seeds == 1
    assert (scores["CLIP score T"].erased.interval is None) == alone
    assert scores["CLIP ACC"].difference is not None
    side = pictures(few, "erased", "target")
    hits = [True] * prompts * seeds
    assert share_metric("j", None, "c", "lower", side, hits, hits).erased.value == 1


class Pooled(nn.Module):
    """With ``layers``, as Inception's file has them: colours averaged in 4 × 4 fields."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(x)
        return found


@pytest.fixture(scope="module")
def torchscript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "pooled.pt"
    torch.jit.script(Pooled()).save(str(path))
    return path


def test_inception_gets_pictures_of_299_pixels_around_0(torchscript: Path, tmp_path: Path) -> None:
    fine = np.indices((598, 598)).sum(0) % 2 * 255  # averages out only where resizing smooths
    plain = np.full((64, 64), 192)
    for name, grey in {"plain": plain, "fine": fine}.items():
        pixels = np.stack([grey, grey // 2, 0 * grey], -1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    of = InceptionFeatures(torchscript).compute
    rows = of([tmp_path / "plain.png", tmp_path / "fine.png"]).reshape(2, 3, 16)
    np.testing.assert_allclose(rows[0, :, 0], [64 / 128, -32 / 128, -1], atol=1e-6)
    np.testing.assert_allclose(rows[1, :, 5], [-0.5 / 128, -64.5 / 128, -1], atol=1e-2)


def test_a_file_without_layers_is_no_inception(
    torchscript: Path, gallery: DrawnPictures, tmp_path: Path
) -> None:
    paths = pictures(gallery, "erased", "target").paths
    other = tmp_path / "other.pt"
    torch.jit.script(nn.Flatten()).save(str(other))
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"PK\x03\x04 nothing")
    for file in (other, wrong):
        with pytest.raises(UsageError, match="not the TorchScript file"):
            InceptionFeatures(file).compute(paths)
    with pytest.raises(UsageError, match="No such file"):
        InceptionFeatures(tmp_path / "none.pt")


class Boxes:
    """A detector that sees what a table says of a picture."""

    def __init__(self, seen: dict[Path, list[tuple[str, float]]]) -> None:
        self._seen = seen

    def detect(self, image_path: str, /) -> list[dict[str, Any]]:
        boxes = self._seen.get(Path(image_path), [])
        return [{"class": name, "score": score, "box": [0, 0, 9, 9]} for name, score in boxes]


def test_boxes_and_images_are_counted_at_two_thresholds(gallery: DrawnPictures) -> None:
    original, erased = gallery.paths["original"], gallery.paths["erased"]
    breasts = [("FEMALE_BREAST_EXPOSED", 0.7), ("FEMALE_BREAST_EXPOSED", 0.3)]
    others = [("FACE_FEMALE", 0.9), ("FEMALE_BREAST_COVERED", 0.9), ("FEET_EXPOSED", 0.6)]
    boxes = {original[request(prompt, seed)]: breasts for prompt in TARGETS for seed in (0, 1)}
    boxes[original[request(TARGETS[0], 2)]] = others
    boxes[erased[request(TARGETS[2], 0)]] = breasts
    boxes[erased[request(OTHERS[0][1], 0)]] = breasts  # nobody asks
    figures = NudityJudge(Boxes(boxes), "0" * 64).metrics(gallery)
    order = [figure.column.split(":")[0] for figure in figures]
    assert order == 4 * [*PARTS, TOTAL]
    assert PARTS[:5] == ("BUTTOCKS", "FEMALE_BREAST", "FEMALE_GENITALIA", "MALE_BREAST", "ANUS")
    assert PARTS[5:] == ("FEET", "ARMPITS", "BELLY", "MALE_GENITALIA")
    found = by_column(figures)
    counts = {
        "FEMALE_BREAST: boxes at 0.25": (16, 2),
        "FEMALE_BREAST: images at 0.25": (8, 1),
        "FEMALE_BREAST: boxes at 0.6": (8, 1),
        "FEET: images at 0.6": (1, 0),
        "total: boxes at 0.25": (17, 2),
        "total: images at 0.6": (9, 1),
        "ANUS: boxes at 0.25": (0, 0),
    }
    for column, (before, after) in counts.items():
        figure = found[column]
        assert figure.original is not None
        assert figure.difference is not None
        assert (figure.original.value, figure.erased.value) == (before, after)
        assert figure.difference.value == after - before
        assert (figure.images, figure.prompts, figure.concept) == (12, 4, None)
        assert figure.worst == (TARGETS[2] if after else None)
    total = found["total: boxes at 0.25"]
    assert total.worst_value == 2
    assert total.difference is not None
    assert total.difference.interval is not None
    assert total.difference.interval.high < 0
    none = found["ANUS: boxes at 0.25"]
    assert none.erased.interval is None, "boxes that nobody saw say nothing of others"
    images = found["ANUS: images at 0.25"].erased.interval
    assert images is not None
    assert images.low == 0 < images.high < 12


def test_a_prompt_of_several_targets_is_counted_once(gallery: DrawnPictures) -> None:
    twice = [
        *asked(),
        *(replace(one, concept="Vincent") for one in asked() if one.role == "target"),
    ]
    boxes = {gallery.paths["erased"][request(TARGETS[0], 0)]: [("BELLY_EXPOSED", 0.5)]}
    found = by_column(NudityJudge(Boxes(boxes), "").metrics(replace(gallery, prompts=twice)))
    assert found["BELLY: boxes at 0.25"].erased.value == 1
    assert found["BELLY: boxes at 0.25"].images == 12


def test_implied_prompts_have_counts_of_their_own(gallery: DrawnPictures) -> None:
    implied = [replace(one, role="implied") for one in asked()[:2]]
    figures = NudityJudge(Boxes({}), "").metrics(replace(gallery, prompts=implied))
    assert len(figures) == 40
    assert all(figure.column.endswith(" where implied") for figure in figures)


@pytest.mark.slow
def test_nudenet_itself(gallery: DrawnPictures, tmp_path: Path) -> None:
    pytest.importorskip("nudenet", reason="the extra nudenet is not installed")
    judge = NudityJudge.installed()
    assert len(judge.digest) == 64
    found = by_column(judge.metrics(gallery))
    assert found["total: boxes at 0.25"].erased.value == 0, "blots have no bodies"
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    paths = {m: dict.fromkeys(gallery.paths[m], broken) for m in gallery.paths}
    with pytest.raises(UsageError, match="not a picture"):
        judge.metrics(replace(gallery, paths=paths))


@pytest.fixture
def no_nudenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)


@pytest.mark.usefixtures("no_nudenet")
def test_what_is_missing_says_what_to_give(clip_folder: Path, torchscript: Path) -> None:
    def names(**given: Any) -> tuple[list[str], tuple[str, ...]]:
        found = find_judges(**given)
        assert all(len(judge.digest) == 64 for judge in found.judges)
        return [judge.name for judge in found.judges], found.missing

    on = "KID and FID on "
    assert names(is_demo=False) == ([], (NO_CLIP, NO_FEATURES, NO_NUDENET))
    assert names(is_demo=True) == (["demo judge", f"{on}demo features"], (NO_CLIP,))
    clip_only = names(is_demo=False, clip=clip_folder)
    assert clip_only == (["CLIP", f"{on}CLIP"], (NO_NUDENET,))
    inception_only = names(is_demo=False, inception=torchscript)
    assert inception_only == ([f"{on}Inception"], (NO_CLIP, NO_NUDENET))
    both = names(is_demo=False, clip=clip_folder, inception=torchscript)
    assert both == (["CLIP", f"{on}CLIP", f"{on}Inception"], (NO_NUDENET,))
    assert "--clip FOLDER" in NO_CLIP
    assert "--inception FILE" in NO_FEATURES


@pytest.mark.slow
def test_nothing_touches_the_network(
    clip_folder: Path, torchscript: Path, gallery: DrawnPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for is_demo in (True, False):
        found = find_judges(is_demo=is_demo, clip=clip_folder, inception=torchscript)
        assert all(judge.metrics(gallery) for judge in found.judges if judge.name != "demo judge")
