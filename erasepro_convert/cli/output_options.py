"""Where commands write: one convention for all of them, which docs/commands.md explains."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from erasepro_convert.cli.terminal import Terminal
    from erasepro_convert.output.destinations import Inputs

Command = Callable[..., Any]

force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but errors.")


def all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return what adds options to a command, which its help lists in this order."""
    return lambda command: reduce(lambda made, add: add(made), reversed(options), command)


def json_option(what: str) -> Callable[[Command], Command]:
    """Return the option ``--json``, which prints ``what``."""
    return click.option(
        "--json", "as_json", is_flag=True, help=f"Print {what} to standard output, as JSON."
    )


def out_option(suffixes: Sequence[str], default: str) -> Callable[[Command], Command]:
    """Return the option ``--out``; ``default`` says what is written without it.

    It gives a tuple of paths.  Where there are several suffixes, it can be given several times.
    """
    kinds = " or ".join(suffixes)
    again = "; can be given several times" if len(suffixes) > 1 else ""
    return click.option(
        "--out",
        metavar="FILE",
        multiple=True,
        type=click.Path(path_type=Path),
        help=f"Write this file instead ({kinds}){again}.  [default: {default}]",
    )


def chosen_outputs(
    given: Sequence[Path], default: Sequence[Path], suffixes: Sequence[str]
) -> tuple[Path, ...]:
    """Return the files to write: those of ``--out``, else the default ones.

    Raises UsageError for a file whose suffix does not say what to write.
    """
    for file in given:
        if file.suffix not in suffixes:
            raise UsageError(f"{file}: the file's name must end in {' or '.join(suffixes)}")
    return tuple(given or default)


def write_outputs(
    outputs: Sequence[Path],
    contents: Mapping[str, bytes],
    inputs: "Inputs",
    terminal: "Terminal",
    *,
    as_json: bool = False,
) -> None:
    """Write each output with what its suffix stands for, and say so, uninterrupted.

    ``as_json`` prints the JSON too.  Raises what ``put_all`` does.
    """
    from erasepro_convert.output.destinations import put_all
    from erasepro_convert.runtime.signals import uninterrupted

    with uninterrupted():
        put_all({output: contents[output.suffix] for output in outputs}, inputs)
        terminal.say(f"wrote {', '.join(map(str, outputs))}")
        if as_json:
            click.echo(contents[".json"], nl=False)
