"""Where nobody reads, or signs are lacking, a command does its work all the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "erasepro_convert")


def run(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, args)], stderr=subprocess.PIPE, check=False, **options
    )


def test_a_conversion_is_done_whether_or_not_somebody_reads_of_it(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    reading, writing = os.pipe()
    os.close(reading)
    ran = run(van_gogh, checkpoint_file, output, stdout=writing)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert output.exists()
    assert output.with_name("out.manifest.json").exists()


@pytest.mark.parametrize("args", [("recipes",), ("--help",), ("check", "nudity", "--json")])
def test_a_reader_who_leaves_ends_a_listing_quietly(args: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = run(*args, stdout=writing)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_an_error_that_nobody_reads_keeps_its_code(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run([*COMMAND, "inspect", tmp_path / "none"], stderr=writing, check=False)
    os.close(writing)
    assert ran.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "ascii:strict"])
@pytest.mark.parametrize(
    "args",
    [("--help",), ("recipes", "van"), ("recipes", "show", "simon-stalenhag"), ("check", "nudity")],
)
def test_every_encoding_can_have_the_output(encoding: str, args: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = run(*args, stdout=subprocess.PIPE, env=environment)
    assert b"Traceback" not in ran.stderr
    assert ran.returncode == (2 if "van" in args else 0), ran.stderr
    if args == ("--help",):
        assert ran.stdout.isascii()


def test_a_name_that_is_no_text_is_shown_all_the_same(
    checkpoint_file: Path, tmp_path: Path
) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.safetensors")
    shutil.copyfile(checkpoint_file, odd)
    ran = run("inspect", os.fsdecode(odd), stdout=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"caf\\udce9.safetensors" in ran.stdout
