"""What TAB offers, by click's own classes and in real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from erasepro_convert.attacks.run import ATTACKS
from erasepro_convert.cli import group
from erasepro_convert.cli.completion import PROGRAM, VARIABLE, Bash
from erasepro_convert.library import recipe_names
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of all kinds, which is the working folder."""
    for name in (
        "models/a.ckpt", "models/notes.txt", "my models/x y.safetensors", "van-gogh.yaml",
        "in.safetensors", "IN.CKPT", "notes.txt", "out.manifest.json", ".hidden.ckpt",
        "$(touch run).pt", "a\x1b[2Jb.ckpt", "two\nlines.ckpt",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str) -> list[str]:
    """What is offered for the last word."""
    *before, last = words
    found = Bash(group, {}, PROGRAM, VARIABLE).get_completions(before, last)
    return [item.value for item in found]


FOLDERS = ["models/", "my models/"]


def test_the_first_word_is_a_command_a_recipe_or_an_option(folder: Path) -> None:
    assert set(offered("")) == {*group.commands, *recipe_names(), *FOLDERS, "van-gogh.yaml"}
    assert offered("van") == ["van-gogh", "van-gogh.yaml"]
    assert offered("insp") == ["inspect"]
    assert offered("--e") == ["--ema", "--embed-manifest"]
    assert {"--version", "--help", "--dry-run"} <= set(offered("--"))


def test_the_main_command_is_completed_without_its_name(folder: Path) -> None:
    assert offered("van-gogh.yaml", "in") == ["in.safetensors"]
    assert offered("van-gogh", "m") == FOLDERS
    assert offered("van-gogh", "in.safetensors", "mo") == ["models/"]
    assert offered("van-gogh", "a", "b", "--cl") == ["--clip-skip"]
    assert offered("van-gogh", "a", "b", "--dtype", "") == ["fp16", "bf16", "fp32"]
    assert offered("--dtype", "f") == ["fp16", "fp32"]
    assert offered("--quiet", "van-gogh.yaml", "IN") == ["IN.CKPT"]
    assert offered("convert", "van") == ["van-gogh", "van-gogh.yaml"]


def test_files_are_those_that_are_meant(folder: Path) -> None:
    assert offered("inspect", "models/") == ["models/a.ckpt"]
    assert offered("report", "out") == ["out.manifest.json"]
    assert offered("verify", "x", "--manifest", "o") == ["out.manifest.json"]
    assert offered("van-gogh", "x", "y", "--sign", "n") == ["notes.txt"]
    assert offered("compare", "r", "i", "--images", "") == FOLDERS
    assert offered("inspect", ".h") == [".hidden.ckpt"]
    assert offered("inspect", "no/such/") == []
    assert offered("stress", "van-gogh.yaml", "i") == ["in.safetensors"]
    assert offered("stress", "r", "o", "--base", "i") == ["in.safetensors"]
    assert offered("batch", "van") == ["van-gogh", "van-gogh.yaml"]
    assert offered("batch", "van-gogh", "in.") == ["in.safetensors"]


def test_names_that_a_terminal_would_obey_are_not_offered(folder: Path) -> None:
    assert not [name for name in offered("inspect", "") if not name.isprintable()]


def test_the_home_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert offered("inspect", "~/in") == [f"{folder}/in.safetensors"]


def test_lists_go_on_behind_a_comma() -> None:
    assert offered("stress", "r", "o", "--attack", "rece,qu") == ["rece,quantise"]
    assert set(offered("stress", "r", "o", "--attack", "")) == set(ATTACKS)
    assert "rece,rece" not in offered("stress", "r", "o", "--attack", "rece,")
    assert offered("compare", "r", "i", "--methods", "uce,esd") == ["uce,esd-x", "uce,esd-u"]
    assert offered("nudity,mon") == ["nudity,monet"]


def test_a_mistake_before_the_cursor_is_no_error() -> None:
    assert offered("no", "such", "--dt") == ["--dtype"]
    assert offered("--json", "inspect", "--ha") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_that_of_clicks_variable(
    cli: Cli, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    monkeypatch.setenv(VARIABLE, f"{shell}_source")
    assert cli().out.rstrip() == ran.out.rstrip()


def test_other_shells_are_refused(cli: Cli) -> None:
    assert cli("completion", "tcsh").code == 2


@pytest.fixture
def path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which the command is."""
    command = tmp_path_factory.mktemp("bin") / PROGRAM
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m erasepro_convert "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}:{os.environ['PATH']}"


def in_shell(path: str, *command: str) -> list[str]:
    """The lines that a shell prints."""
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


BASH = """
eval "$(erasepro-convert completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_erasepro_convert_completion erasepro-convert
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(path: str) -> None:
    def completed(*words: str) -> list[str]:
        return in_shell(path, "bash", "--norc", "-c", BASH, "bash", PROGRAM, *words)

    assert completed("van") == ["van-gogh", "van-gogh.yaml"]
    assert completed("van-gogh", r"my\ models/") == ["my models/x y.safetensors"]
    assert completed("van-gogh", "$") == ["$(touch run).pt"]
    assert completed("van-gogh", "no such") == [""]


def test_fish_completes(path: str) -> None:
    def completed(line: str) -> list[str]:
        script = f"{PROGRAM} completion fish | source; complete -C '{PROGRAM} {line}'"
        lines = in_shell(path, "fish", "--no-config", "-c", script)
        return [line.split("\t")[0] for line in lines]

    assert completed("van") == ["van-gogh", "van-gogh.yaml"]
    assert completed("nudity,mon") == ["nudity,monet"]
    assert completed("van-gogh in.safetensors out --dr") == ["--dry-run"]


def test_zsh_reads_the_script(path: str, cli: Cli) -> None:
    script = cli("completion", "zsh").out
    asked = "compdef() { print -- $@ }; eval $1"
    told = in_shell(path, "zsh", "-f", "-c", asked, "zsh", script)
    assert told == ["_erasepro_convert_completion erasepro-convert"]
