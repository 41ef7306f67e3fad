"""What the text encoder's part of an erasure gives, kept and taken again: bit by bit the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.erase import text_pass
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.sd1.keys import TEXT
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint

RECIPE = """
version: 1
name: test
limits: {leak: null, drift: null, relative_update: null}
clip_skip: [1, 2]
concepts:
  - {target: Van Gogh, anchor: artist}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with what language looks like, once it was computed, but no results."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    for kind in ("text", "features"):
        for file in folder.glob(f"erasepro-convert/{kind}-*"):
            file.unlink()
    return folder / "erasepro-convert"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passes through a text encoder that were computed, by what they were for."""
    made: list[str] = []
    original = text_pass._edit_layer

    def counted(model: Any, number: int, *rest: Any) -> Any:
        made.append(f"layer {number}")
        return original(model, number, *rest)

    monkeypatch.setattr(text_pass, "_edit_layer", counted)
    return made


def recipe(tmp_path: Path, more: str = "") -> Recipe:
    (tmp_path / "recipe.yaml").write_text(RECIPE + more, encoding="utf-8")
    return load_recipe(tmp_path / "recipe.yaml")


def erased(source: SD1Checkpoint, asked: Recipe, **options: Any) -> Erasure:
    return run_erasure(source, asked, options.pop("dtype", None), lambda *_: None, **options)


def require_same(one: Erasure, other: Erasure) -> None:
    assert one.edits.keys() == other.edits.keys()
    for name, edit in one.edits.items():
        assert torch.equal(edit.weight, other.edits[name].weight), name
        assert edit.record == other.edits[name].record
    assert one.probe == other.probe


@pytest.mark.parametrize(
    ("more", "dtype"),
    [
        ("", None),
        ("", torch.float16),
        ("tolerance: 0\n", None),
        ("method: uce\n", None),
        ("method: uce\n", torch.float16),
        ("layers: {text_encoder: none}\n", None),
    ],
)
def test_what_is_taken_from_the_cache_is_what_would_be_computed(
    more: str, dtype: torch.dtype | None, checkpoint_file: Path, tmp_path: Path, cache: Path
) -> None:
    source, asked = open_sd1_checkpoint(checkpoint_file), recipe(tmp_path, more)
    anew = erased(source, asked, dtype=dtype, anew=True)
    assert not [*cache.glob("text-*"), *cache.glob("features-*")]
    first = erased(source, asked, dtype=dtype)
    assert len([*cache.glob("text-*")]) == 1
    require_same(anew, first)
    require_same(anew, erased(source, asked, dtype=dtype))


def test_another_unet_takes_the_text_encoder_from_the_cache(
    checkpoint_file: Path, tmp_path: Path, passes: list[str]
) -> None:
    """Values of the cross-attention turned around: other weights, in which words are as alike."""
    state = load_file(checkpoint_file)
    for name in [name for name in state if name.endswith("attn2.to_v.weight")]:
        state[name] = state[name].flip(0).contiguous()
    save_file(state, tmp_path / "other.safetensors")
    asked = recipe(tmp_path)
    erased(open_sd1_checkpoint(checkpoint_file), asked)
    assert len(passes) == 12
    other = open_sd1_checkpoint(tmp_path / "other.safetensors")
    second = erased(other, asked)
    assert len(passes) == 12, "nothing of the text encoder was computed again"
    require_same(second, erased(other, asked, anew=True))


@pytest.mark.parametrize("changed", ["a weight", "a used embedding", "the recipe", "the dtype"])
def test_whatever_it_depends_on_makes_it_anew(
    changed: str, checkpoint_file: Path, tmp_path: Path, passes: list[str]
) -> None:
    state = load_file(checkpoint_file)
    asked = recipe(tmp_path)
    erased(open_sd1_checkpoint(checkpoint_file), asked)
    before = len(passes)
    dtype = None
    if changed == "a weight":
        state[f"{TEXT}encoder.layers.11.mlp.fc2.bias"][0] += 0.5
    elif changed == "a used embedding":
        state[f"{TEXT}embeddings.token_embedding.weight"][49407, 0] += 0.5
    elif changed == "the recipe":
        asked = recipe(tmp_path, "strength: 2\n")
    else:
        dtype = torch.float16
    save_file(state, tmp_path / "other.safetensors")
    erased(open_sd1_checkpoint(tmp_path / "other.safetensors"), asked, dtype=dtype)
    assert len(passes) == before + 12


def test_a_damaged_file_is_computed_anew(
    checkpoint_file: Path, tmp_path: Path, cache: Path
) -> None:
    source, asked = open_sd1_checkpoint(checkpoint_file), recipe(tmp_path)
    first = erased(source, asked)
    (kept,) = cache.glob("text-*")
    whole = bytearray(kept.read_bytes())
    whole[-1] ^= 1
    kept.write_bytes(whole)
    require_same(first, erased(source, asked))
