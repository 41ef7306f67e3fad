"""What each command loads before it answers: slow imports are for those that need them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from erasepro_convert import demo

pytestmark = pytest.mark.slow

WATCH = """
import json, sys
from erasepro_convert.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps([name for name in sys.modules if "." not in name]))
"""
SLOW = {"torch", "transformers", "diffusers", "matplotlib", "PIL"}


def loaded(*args: str) -> set[str]:
    """The top-level modules that a run of the command line has loaded at its end."""
    command = [sys.executable, "-c", WATCH, *args]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["probe", "--help"], ["stress", "--help"], ["no", "such"]]
)
def test_help_and_mistakes_need_no_library_but_clicks(args: list[str]) -> None:
    assert not loaded(*args) & {*SLOW, "numpy", "pydantic", "tokenizers", "rich", "safetensors"}


@pytest.mark.parametrize("words", ["x van", "x --e", "x r.yaml in", "x stress r o --attack rece,"])
def test_completing_a_word_needs_no_library(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ERASEPRO_CONVERT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert not loaded() & {*SLOW, "numpy", "pydantic", "tokenizers", "rich", "safetensors"}


def test_inspecting_and_checking_a_release_need_no_torch(tmp_path: Path) -> None:
    with demo.checkpoint() as model:
        assert not loaded("inspect", "--hash", str(model)) & SLOW


def test_a_probe_needs_neither_diffusers_nor_transformers(van_gogh: Path) -> None:
    with demo.checkpoint() as model:
        found = loaded("probe", str(van_gogh), str(model))
    assert "torch" in found
    assert not found & (SLOW - {"torch"})


def test_a_recipes_mistake_shows_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("version: 1\nconcepts: []\n", encoding="utf-8")
    assert not loaded(str(tmp_path / "recipe.yaml"), "in.ckpt", "out.safetensors") & SLOW


def test_a_batch_leaves_torch_to_its_workers(van_gogh: Path, tmp_path: Path) -> None:
    with demo.checkpoint() as model:
        assert not loaded("batch", str(van_gogh), str(model), "--out", f"{tmp_path}/out") & SLOW
    assert (tmp_path / "out" / "batch.html").exists()
