"""Tensors in the user's cache folder: kept, checked when read, computed anew when damaged."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
import torch

from erasepro_convert.storage import cache
from erasepro_convert.storage.cache import cached_tensors, find_tensors, keep_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "erasepro-convert" / "name.safetensors"


def read() -> tuple[dict[str, torch.Tensor], bool]:
    """The tensors, and whether they were computed."""
    computed = []

    def compute() -> dict[str, torch.Tensor]:
        computed.append(True)
        return TENSORS

    return dict(cached_tensors("name", compute)), bool(computed)


def test_tensors_are_computed_once(file: Path) -> None:
    first, second = read(), read()
    assert (first[1], second[1]) == (True, False)
    assert file.exists()
    for name, tensor in TENSORS.items():
        assert torch.equal(second[0][name], tensor)
        assert second[0][name].dtype == tensor.dtype


@pytest.mark.parametrize("place", [-1, 20], ids=["a value", "the header"])
def test_a_damaged_file_is_computed_anew(place: int, file: Path) -> None:
    read()
    whole = file.read_bytes()
    file.write_bytes(bytes(b ^ 1 if i == place % len(whole) else b for i, b in enumerate(whole)))
    tensors, computed = read()
    assert computed
    assert torch.equal(tensors["b"], TENSORS["b"])
    assert file.read_bytes() == whole


def test_a_truncated_file_is_computed_anew(file: Path) -> None:
    read()
    file.write_bytes(file.read_bytes()[:-4])
    assert read()[1]


def test_a_folder_that_cannot_be_written_to_costs_time_alone(file: Path) -> None:
    file.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not kept for the next run"):
        tensors, computed = read()
    assert computed
    assert torch.equal(tensors["a"], TENSORS["a"])


def test_what_was_not_used_for_longest_makes_room(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_tensors("a", TENSORS)
    size = (file.parent / "a.safetensors").stat().st_size
    monkeypatch.setattr(cache, "LIMIT", 2 * size)
    keep_tensors("b", TENSORS)
    for name, age in (("a", 300), ("b", 200)):
        moment = (file.parent / f"{name}.safetensors").stat().st_mtime - age
        os.utime(file.parent / f"{name}.safetensors", (moment, moment))
    assert find_tensors("a")  # used now
    keep_tensors("c", TENSORS)
    assert sorted(path.stem for path in file.parent.glob("*.safetensors")) == ["a", "c"]


def test_what_is_too_large_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 24)
    keep_tensors("name", TENSORS)
    assert not file.exists()
    monkeypatch.setattr(cache, "LARGEST", 40)
    keep_tensors("name", TENSORS)
    assert file.exists()


def test_processes_that_start_together_compute_once(file: Path) -> None:
    """One computes, the others wait for it; their waiting can be interrupted."""
    waited: list[bool] = []
    started, go = Event(), Event()

    def slow() -> dict[str, torch.Tensor]:
        started.set()
        assert go.wait(60)
        return TENSORS

    def waiting() -> None:
        waited.append(True)
        go.set()

    with ThreadPoolExecutor(1) as other:
        first = other.submit(cached_tensors, "name", slow)
        assert started.wait(60)
        second = cached_tensors("name", lambda: pytest.fail("it was computed"), waiting)
    assert waited
    assert torch.equal(first.result()["a"], second["a"])
    started.clear()
    go.clear()
    file.unlink()

    def interrupted() -> None:
        go.set()
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as other:
        first = other.submit(cached_tensors, "name", slow)
        assert started.wait(60)
        with pytest.raises(KeyboardInterrupt):
            cached_tensors("name", lambda: pytest.fail("it was computed"), interrupted)
    assert torch.equal(first.result()["a"], second["a"])
