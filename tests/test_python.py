"""The public interface: what it exports, what it costs to import, and its documentation."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import erasepro_convert
from erasepro_convert import demo
from erasepro_convert.errors import EraseproError

PAGE = Path("docs/python.md").resolve()


def run(script: str) -> str:
    """What a script prints in a process of its own."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_every_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in a folder with a recipe and a checkpoint."""
    shutil.copy("recipes/characters/snoopy.yaml", tmp_path / "recipe.yaml")
    with demo.checkpoint() as model:
        shutil.copy(model, tmp_path / "in.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(example, names)  # the examples of our own page
    assert (tmp_path / "out.manifest.json").exists()


def test_the_page_explains_every_public_name() -> None:
    page = PAGE.read_text("utf-8")
    for name in set(erasepro_convert.__all__) - {"Inspection", "Manifest", "ProbeRecord"}:
        assert name in ("Verified", "__version__") or re.search(rf"\b{name}\b", page), name


def test_nothing_else_is_exported() -> None:
    """In a process of its own, since other tests import modules of the package."""
    script = "import erasepro_convert as e; print(*[n for n in vars(e) if n[0] != '_'])"
    assert run(script).split() == ["runtime"]  # where its version is
    assert dir(erasepro_convert) == sorted(erasepro_convert.__all__)


def test_every_public_name_is_there() -> None:
    for name in erasepro_convert.__all__:
        assert getattr(erasepro_convert, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        erasepro_convert.no_such  # noqa: B018


def test_every_error_of_the_interface_is_one_of_ours() -> None:
    errors = [name for name in erasepro_convert.__all__ if name.endswith("Error")]
    assert all(issubclass(getattr(erasepro_convert, name), EraseproError) for name in errors)


def test_importing_it_imports_no_library() -> None:
    script = "import sys; before = set(sys.modules); import erasepro_convert; "
    script += "print(*[n for n in sys.modules if n not in before])"
    ours = {"erasepro_convert", "erasepro_convert.runtime", "erasepro_convert.runtime.version"}
    found = {n for n in run(script).split() if n.split(".")[0] not in sys.stdlib_module_names}
    assert found == ours
