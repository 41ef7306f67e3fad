"""A release to write documents for: an erased miniature."""

import shutil
from pathlib import Path

import pytest

from erasepro_convert import convert
from tests.conftest import PROBED


@pytest.fixture(scope="session")
def erased_once(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("erased")
    (folder / "recipe.yaml").write_text(PROBED, encoding="utf-8")
    convert(folder / "recipe.yaml", checkpoint_file, folder / "out.safetensors")
    return folder / "out.safetensors"


@pytest.fixture
def erased(erased_once: Path, tmp_path: Path) -> Path:
    """An erased checkpoint with its manifest, in a folder of its own."""
    for ending in (".safetensors", ".manifest.json"):
        shutil.copyfile(erased_once.with_suffix(ending), tmp_path / f"out{ending}")
    return tmp_path / "out.safetensors"
