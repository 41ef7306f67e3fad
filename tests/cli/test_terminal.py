"""What terminals of several widths show: figures and names are whole, bars give way first."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table

from erasepro_convert.cli.evaluate import evaluation_tables
from erasepro_convert.cli.terminal import Terminal, cell
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.results import Estimate, Metric
from tests.conftest import VAN_GOGH, Cli, Ran, WriteRecipe

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LAYERS = [
    *(f"text_encoder.{number}" for number in range(1, 13)),
    *(f"unet.{part}" for part in ("down.0.0", "down.2.1", "mid.0", "up.1.0", "up.3.2")),
]
LONG = """
version: 1
concepts:
  - {target: a portrait of the honourable president of the united states, anchor: a man}
  - {target: Michelangelo, anchor: artist}
tolerance: 0
retain: {weight: 0}
text_encoders: [edited]
limits: {leak: null, drift: null, relative_update: null}
"""


@pytest.fixture
def on_screen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Rich takes FORCE_COLOR for a terminal, and COLUMNS for its width."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("TERM", raising=False)
    return monkeypatch


def lines_of(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    return [line.rstrip() for line in ANSI.sub("", ran.out).splitlines()]


def edits_in(lines: list[str]) -> dict[str, list[str]]:
    """For each layer the words behind its name."""
    words = [line.split() for line in lines]
    return {first: rest for first, *rest in filter(None, words) if first in LAYERS}


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_gives_way_to_figures(
    width: int,
    cli: Cli,
    van_gogh: Path,
    checkpoint_file: Path,
    tmp_path: Path,
    on_screen: pytest.MonkeyPatch,
) -> None:
    on_screen.setenv("COLUMNS", str(width))
    output = tmp_path / "o.safetensors"
    lines = lines_of(cli("--details", "--dry-run", van_gogh, checkpoint_file, output))
    edits = edits_in(lines)
    assert set(edits) == set(LAYERS)
    for figures in edits.values():
        update, relative, before, after, *bar = figures
        assert re.fullmatch(r"\d\.?[\d.]+", update)
        assert re.fullmatch(r"\d+\.\d\d%", relative)
        assert all(re.fullmatch(r"\d\.\de[+-]\d\d", figure) for figure in (before, after))
        assert bool(bar) == (width >= 80)
    assert all(len(line) <= width for line in lines if line.startswith(("text_", "unet.")))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_long_names_and_prompts_wrap_between_words(
    width: int,
    cli: Cli,
    write_recipe: WriteRecipe,
    checkpoint_file: Path,
    on_screen: pytest.MonkeyPatch,
) -> None:
    on_screen.setenv("COLUMNS", str(width))
    recipe = write_recipe(LONG)
    ran = cli("probe", recipe, checkpoint_file, "--base", checkpoint_file)
    lines = lines_of(ran)
    assert "…" not in ran.out
    assert all(len(line) <= width for line in lines[1:])
    names = " ".join(line.split("  ")[0] for line in lines[1:])
    assert "a portrait of the honourable president of the united states" in names
    assert "leak of Michelangelo" in names
    figures = [re.findall(r" (\d\.\d\d)(?= |$)", line) for line in lines]
    assert [len(found) for found in figures if found] == [3] * 4 + [1] * 2 + [3] * 2


def test_prompts_wrap_before_names(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", "80")
    recipe = write_recipe(VAN_GOGH.replace("Van Gogh", "sunflowers painting"))
    lines = lines_of(cli("probe", recipe, checkpoint_file, "--base", checkpoint_file))
    assert any(line.startswith("reach of sunflowers painting  any  ") for line in lines)


def test_a_word_without_room_is_whole(
    capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    """The line is longer than the screen then; a screen shows it in two."""
    on_screen.setenv("COLUMNS", "20")
    table = Table("name", "figure", box=None)
    table.add_row("supercalifragilistic", "0.123456789")
    Terminal(quiet=False, to_stderr=False).show(table)
    shown = ANSI.sub("", capsys.readouterr().out)
    assert re.search(r"supercalifragilistic +0\.123456789", shown)


def test_nothing_is_wrapped_into_a_file(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    recipe = write_recipe(LONG)
    lines = cli("probe", recipe, checkpoint_file, "--base", checkpoint_file).out.splitlines()
    rows = 4 + 2 + 2  # leak of two concepts by two text encoders, their reach, drift
    assert len(lines) == 2 + rows, "below the file's name and the headings"
    assert lines[2].startswith(
        "leak of a portrait of the honourable president of the united states "
    )
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [60, 80])
def test_a_file_that_is_at_work_is_named_in_full(
    width: int, capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", str(width))
    with Terminal(quiet=False, to_stderr=False).steps("pictures") as progress:
        progress("erased: a-model-with-a-long-name-v2.safetensors", 12, 3200)
    shown = ANSI.sub("", capsys.readouterr().out)
    assert "…" not in shown
    assert "12/3200 pictures" in shown


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_are_broken_between_words(
    width: int, capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", str(width))
    said = "warning: 10 images: FID is too high, the more the fewer they are, and the more features"
    Terminal(quiet=False, to_stderr=False).say(said)
    lines = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= width for line in lines)
    assert " ".join(line.strip() for line in lines) == said


def test_a_bar_of_steps_has_a_line_of_its_own_whatever_it_is_about(
    capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", "80")
    about = "judging: KID and FID on demo features, of a file with a name"
    with Terminal(quiet=False, to_stderr=False).steps() as progress:
        progress(about, 12, 3200)
        progress(about, 151_040, 36_002_806)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", ANSI.sub("", capsys.readouterr().out))]
    assert about in lines
    assert all(len(line) <= 80 for line in lines)
    assert re.fullmatch(r"[━╸╺]+ 0% \d:\d\d", lines[-1] or lines[-2])


def test_an_error_is_broken_between_words() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "erasepro_convert", "check", "x.safetensors"]
    environment = {**os.environ, "COLUMNS": "60"}
    ran = subprocess.run(command, stderr=theirs, env=environment, check=False)
    os.close(theirs)
    lines = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)
    assert ran.returncode == 2
    assert lines == [
        "error: x.safetensors: is a checkpoint by its name, not a",
        "  recipe; are recipe and checkpoint swapped?",
    ]


def test_no_arrow_stands_alone_below_its_metric(
    capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", "80")
    rate = Estimate(1.0, Interval(0.722, 1.0))
    change = Estimate(-1.0, Interval(-1.0, -1.0))
    metric = Metric("judge", "snoopy", "T: target seen", "lower", rate, rate, change, 10, 10)
    (table,) = evaluation_tables(SimpleNamespace(metrics=[metric]))  # type: ignore[arg-type]
    Terminal(quiet=False, to_stderr=False).show(table)
    heading, first, second = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert heading.split() == ["judge", "original", "erased", "difference", "images/prompts"]
    assert first.split() == ["snoopy:", "T:", "target", "↓", "1.000", "1.000", "-1.000", "10/10"]
    assert second.split() == ["seen", "0.722…1.000", "0.722…1.000", "-1.000…-1.000"]


HOSTILE = "sno\topy \x1b[31m\x1b]0;title\x07\nok: \u202e it's"
SHOWN = r"sno\topy \x1b[31m\x1b]0;title\x07\nok: \u202e it's"


def test_nothing_that_is_said_is_an_order_to_the_terminal_or_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], on_screen: pytest.MonkeyPatch
) -> None:
    on_screen.setenv("COLUMNS", "200")
    terminal = Terminal(quiet=False, to_stderr=False)
    terminal.say(HOSTILE)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(cell(f"{HOSTILE}[bold]"))
    terminal.show(table)
    assert ANSI.sub("", capsys.readouterr().out) == f"{SHOWN}\n{SHOWN}[bold]\n"


@pytest.mark.parametrize("command", ["inspect", "card", "verify", "report", "evidence"])
def test_a_name_in_an_error_is_harmless(command: str, cli: Cli, tmp_path: Path) -> None:
    ran = cli(command, tmp_path / "a\tb\x1b[31m.safetensors")
    assert ran.code == 2
    assert r"a\tb\x1b[31m.safetensors: there is no such file" in ran.err
