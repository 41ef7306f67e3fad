"""The command that opens the page, without the page."""

import sys
from pathlib import Path

import pytest

from tests.conftest import Cli


def test_without_the_extra_it_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("erasepro_convert.ui.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    ran = cli("ui", "--no-browser", "--folder", tmp_path)
    assert ran.code == 2
    assert ran.err == "error: the page needs gradio: pip install 'erasepro-convert[ui]'\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--folder", "missing"], "does not exist"), (["--port", "70000"], "is not in the range")],
)
def test_mistakes_are_said_before_anything_starts(
    options: list[str], words: str, cli: Cli, tmp_path: Path
) -> None:
    ran = cli("ui", "--no-browser", *options)
    assert ran.code == 2
    assert words in ran.err


def test_a_port_that_is_taken_is_said(cli: Cli, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = cli("ui", "--no-browser", "--folder", tmp_path, "--port", port)
    assert ran.code == 2
    assert f"port {port} cannot be had" in ran.err
