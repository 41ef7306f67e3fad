"""What docs/commands.md says of all commands is what each one has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from erasepro_convert.cli import group
from tests.conftest import Cli

NONE = "–"


class Row(NamedTuple):
    """A line of the table."""

    writes: str
    out: str
    json: str
    force: str


def table() -> Iterator[tuple[str, Row]]:
    page = Path("docs/commands.md").read_text("utf-8")
    for line in re.findall(r"^\| `\w+`.*\|$", page, re.MULTILINE):
        command, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        yield command.split("`")[1], Row(*cells)


ROWS = dict(table())


def options_of(command: str) -> dict[str, click.Option]:
    parameters = group.commands[command].params
    options = [parameter for parameter in parameters if isinstance(parameter, click.Option)]
    return {name: option for option in options for name in option.opts}


def test_every_command_is_in_the_table() -> None:
    assert ROWS.keys() == group.commands.keys()


@pytest.mark.parametrize("command", ROWS)
def test_a_command_has_the_options_that_its_row_says(command: str) -> None:
    options, row = options_of(command), ROWS[command]
    assert ("--out" in options) == (row.out != NONE)
    assert ("--json" in options) == (row.json != NONE)
    assert ("--force" in options) == (row.force != NONE)


@pytest.mark.parametrize("command", ROWS)
def test_json_prints_out_writes_and_force_replaces(command: str) -> None:
    """No option has another name for it: ``--json`` takes no file, ``--out`` always a place."""
    options, row = options_of(command), ROWS[command]
    for flag in {"--json", "--force", "--quiet"} & options.keys():
        assert options[flag].is_flag
    if "--out" in options:
        assert options["--out"].metavar == ("FILE" if row.out.startswith(".") else "DIR")
    if row.out.startswith("."):
        assert f"({row.out.replace(', ', ' or ')})" in str(options["--out"].help)
        assert options["--out"].multiple
    assert not options.keys() & {"--csv", "--png", "--html", "--out-dir", "--output"}


@pytest.mark.parametrize("command", ROWS)
def test_a_command_that_writes_files_asks_before_it_replaces_some(command: str) -> None:
    assert (ROWS[command].writes == NONE) == (ROWS[command].force == NONE)


def test_tables_go_to_standard_error_beside_json(cli: Cli, checkpoint_file: Path) -> None:
    ran = cli("inspect", "--json", checkpoint_file)
    assert json.loads(ran.out)[0]["variant"] == "stable-diffusion-v1"
    assert "would be converted" in ran.err
    assert "would be converted" in cli("inspect", checkpoint_file).out


def test_commands_that_draw_say_that_they_read_no_urls(
    cli: Cli, van_gogh: Path, checkpoint_file: Path
) -> None:
    url = "s3://user:secret@bucket/out.safetensors"
    for words in (
        ("evaluate", van_gogh, url, "--base", checkpoint_file),
        ("stress", van_gogh, url, "--base", checkpoint_file),
        ("preview", url, "--base", checkpoint_file, "--recipe", van_gogh),
        ("compare", van_gogh, url),
    ):
        ran = cli(*words)
        assert ran.code == 2
        assert "reads files of this machine: fetch it first" in ran.err
        assert "secret" not in ran.err
