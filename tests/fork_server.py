"""A process that has its imports done, and forks for each function that it is asked to call."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CANNOT = 77
"""Exit code of a function where the system does not let it do what it is for."""
PRELOADED = ("conversion.erase_checkpoint", "output.diffusers_folder", "cli")
"""Modules of the package that take long to import."""


class ForkServer(AbstractContextManager["ForkServer"]):
    """Calls functions of test modules in processes of their own, whose imports take no time.

    Such a process may fork, mount or give up rights.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """``prefix`` begins the server's command line, as ``unshare`` does."""
        command = [*prefix, sys.executable, "-c", f"from {__name__} import serve; serve()"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe)

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(
        self, function: Callable[..., None], *args: object
    ) -> "subprocess.CompletedProcess[str]":
        """Call a function with arguments as text; skip the test where it cannot do its work."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests
        assert answers
        with tempfile.TemporaryDirectory() as folder:
            words = [function.__module__, function.__name__, folder, *map(str, args)]
            requests.write(json.dumps(words) + "\n")
            requests.flush()
            code = int(answers.readline())
            out, err = ((Path(folder) / name).read_text() for name in ("out", "err"))
        if code == CANNOT:
            pytest.skip(err.strip())
        return subprocess.CompletedProcess(words, code, out, err)


def serve() -> None:
    """Answer each request of standard input with an exit code."""
    for module in PRELOADED:
        import_module(f"erasepro_convert.{module}")
    for line in sys.stdin:
        module, name, folder, *args = json.loads(line)
        function = getattr(import_module(module), name)
        print(wait(fork(lambda: _call(function, folder, args))), flush=True)  # noqa: B023  # forked now


def _call(function: Callable[..., None], folder: str, args: list[str]) -> None:
    for descriptor, name in ((0, os.devnull), (1, f"{folder}/out"), (2, f"{folder}/err")):
        opened = os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    try:
        function(*args)
    finally:
        sys.stdout.flush()


def fork(work: Callable[[], object]) -> int:
    """Start ``work`` in a child; its imports are done already, so that a run takes no time."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        gc.collect()  # what an interpreter does at its end: generators that an interrupt left end
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
