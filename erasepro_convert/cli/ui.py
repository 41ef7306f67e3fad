"""``erasepro-convert ui``: a page in the browser, from a file to a release."""

import os
import socket
from pathlib import Path

import click

from erasepro_convert.errors import UsageError

INSTALL_COMMAND = "pip install 'erasepro-convert[ui]'"


@click.command("ui")
@click.option(
    "--folder",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the page may read and write; can be given several times.  [default: the current "
    "folder]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="The port on this machine.  [default: a free one]",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
def ui_command(folders: tuple[Path, ...], port: int, no_browser: bool) -> None:
    """Open a page on this machine that leads from a checkpoint to a release.

    Nothing leaves this machine, and no other can reach the page: its address holds a token that is
    another one each time.  Files outside of --folder are neither read nor written.  What is being
    written goes on when the browser is closed.  Ctrl-C ends the page and what is at work.
    """
    # Before Gradio is imported, which would ask its makers' servers for news.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from erasepro_convert.runtime.library_logging import silence_libraries

    silence_libraries()
    try:
        from erasepro_convert.ui.server import HOST, serve
    except ModuleNotFoundError as error:
        raise UsageError(f"the page needs {error.name}: {INSTALL_COMMAND}") from error
    from erasepro_convert.ui.folders import Folders

    allowed = Folders(folders or (Path(),))

    def opened(address: str) -> None:
        click.echo(f"the page is at {address}")
        click.echo(f"it may use {', '.join(map(str, allowed.roots))}; Ctrl-C ends it")
        if not no_browser:
            click.launch(address)

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise UsageError(f"port {port} cannot be had: {error.strerror}") from error
        serve(allowed, listening, opened)
