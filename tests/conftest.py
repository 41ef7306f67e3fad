"""Shared by all tests: a miniature checkpoint, recipes from text, the command line in-process."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client

import atexit
import hashlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from erasepro_convert import demo
from erasepro_convert.cli import main
from erasepro_convert.recipe import Recipe, load_recipe
from tests.miniature import State, state_dict

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers and what they start share one cache
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="erasepro-tests-")
    os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_CACHE_HOME"]  # no recipes of the user's own
    os.environ.pop("ERASEPRO_RECIPES", None)
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

PLAIN = """
tolerance: 0
retain: {weight: 0}
tokens: prompt
text_encoders: [edited]
limits: {leak: null, drift: null, relative_update: null}
"""
"""The paper's settings, and no limits: random weights hold none."""

SHORT = """\
version: 1
name: van-gogh
concepts: [{target: Van Gogh, anchor: artist, prompts: ["{}"]}]
"""
VAN_GOGH = SHORT + PLAIN
PROBED = (
    VAN_GOGH
    + """
clip_skip: [1, 2]
probe: {prompts: ["{} in the rain", "an old {}"], others: [a house, a cat at night]}
"""
)

WriteRecipe = Callable[[str], Path]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
"""The browser that pages are tested in; None where there is none."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run side by side; none gains from more threads at these sizes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def signals_at_their_defaults() -> None:
    """Signals that whoever started the tests ignores (``nohup``, ``&``) do not stay ignored.

    A program inherits what is ignored, and then nothing that a test starts could be interrupted.
    A hangup still ends no test: it is handled, if by nothing, and what is handled is not inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def state() -> State:
    """A miniature in float32; treat it as read-only."""
    return state_dict()


@pytest.fixture(scope="session")
def checkpoint_file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature as a safetensors file with some metadata."""
    path = tmp_path_factory.mktemp("miniature") / "mini.safetensors"
    save_file(state, path, metadata={"format": "pt", "author": "somebody"})
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key pairs: key.pem and key.pub, other.pem and other.pub."""
    from tests.keys import write_pair  # its library is not there where the core alone is tested

    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        write_pair(folder, name)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium that finds no other host by its name."""
    from playwright.sync_api import sync_playwright

    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", alone]
        )
        yield launched
        launched.close()


def copy_of_demo(folder: Path) -> Path:
    """The demo model as ``in.safetensors``, in a folder that a test may write to."""
    path = folder / "in.safetensors"
    with demo.checkpoint() as shipped:
        shutil.copyfile(shipped, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the test, an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_recipe(write_recipe: WriteRecipe) -> Callable[[str], Recipe]:
    return lambda text: load_recipe(write_recipe(text))


@pytest.fixture
def van_gogh(write_recipe: WriteRecipe) -> Path:
    return write_recipe(VAN_GOGH)


@dataclass(frozen=True)
class Ran:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line in this process, which handles its signals as before when it is over."""

    def run(*args: object) -> Ran:
        capsys.readouterr()
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
        try:
            main([str(arg) for arg in args])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
