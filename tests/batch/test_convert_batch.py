"""A batch from Python: outcomes one by one, an end on demand, and going on from there."""

from pathlib import Path

import pytest

from erasepro_convert import Entry, Options, convert_batch, find_checkpoints
from erasepro_convert.errors import UsageError

pytestmark = pytest.mark.slow


class EndedError(Exception):
    """Raised by a progress."""


def test_it_tells_each_outcome_and_goes_on(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.ckpt").write_bytes(b"broken")
    told: list[Entry] = []
    seen: list[tuple[str, int, int]] = []
    inputs = [checkpoint_file, tmp_path / "broken.ckpt"]
    entries = convert_batch(
        [van_gogh],
        inputs,
        tmp_path / "out",
        progress=lambda *now: seen.append(now),
        ended=told.append,
    )
    assert list(entries) == told
    assert {entry.output: entry.outcome for entry in entries} == {
        "mini-recipe.safetensors": "done",
        "broken-recipe.safetensors": "refused",
    }
    assert ("batch", 0, 2) in seen
    written = (tmp_path / "out" / "mini-recipe.safetensors").stat().st_mtime_ns
    again = convert_batch([van_gogh], inputs, tmp_path / "out")
    assert len(again) == 2
    assert (tmp_path / "out" / "mini-recipe.safetensors").stat().st_mtime_ns == written


def test_what_the_progress_raises_ends_it_and_leaves_nothing_half(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    def end(*_: object) -> None:
        raise EndedError

    with pytest.raises(EndedError):
        convert_batch([van_gogh], [checkpoint_file], tmp_path / "out", progress=end)
    assert not list((tmp_path / "out").glob("*.safetensors*"))
    entries = convert_batch([van_gogh], [checkpoint_file], tmp_path / "out")
    assert [entry.outcome for entry in entries] == ["done"]


def test_nothing_to_do_is_said(van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to do"):
        convert_batch([], [checkpoint_file], tmp_path / "out")
    with pytest.raises(UsageError, match="nothing to do"):
        convert_batch([van_gogh], [], tmp_path / "out")


def test_it_takes_files_of_jobs(van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> None:
    job = f"{{recipe: {van_gogh}, input: {checkpoint_file}, output: own.safetensors}}"
    (tmp_path / "jobs.yaml").write_text(f"version: 1\njobs: [{job}]\n", encoding="utf-8")
    (entry,) = convert_batch([tmp_path / "jobs.yaml"], [], tmp_path / "out")
    assert (entry.output, entry.outcome) == ("own.safetensors", "done")


def test_what_is_no_key_is_refused_before_any_work(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "odd.pem").write_text("nonsense")
    options = Options(sign=tmp_path / "odd.pem")
    with pytest.raises(UsageError, match="no key to sign with"):
        convert_batch([van_gogh], [checkpoint_file], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_checkpoints_below_a_folder_are_found(checkpoint_file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.ckpt").write_bytes(b"")
    (tmp_path / ".hidden.ckpt").write_bytes(b"")
    (tmp_path / "text.txt").write_bytes(b"")
    assert find_checkpoints(tmp_path) == (tmp_path / "sub" / "model.ckpt",)
    assert find_checkpoints(tmp_path / "sub") == (tmp_path / "sub" / "model.ckpt",)
