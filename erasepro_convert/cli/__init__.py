"""The command line.  Only this package knows the terminal; heavy imports wait for their use."""

import signal
import sys
from difflib import get_close_matches
from io import StringIO
from itertools import dropwhile
from pathlib import Path
from shutil import get_terminal_size

import click
from click.shell_completion import CompletionItem
from click_default_group import DefaultGroup

from erasepro_convert.cli.batch import batch_command
from erasepro_convert.cli.card import card_command
from erasepro_convert.cli.check import check_command
from erasepro_convert.cli.compare import compare_command
from erasepro_convert.cli.completion import completion_command
from erasepro_convert.cli.convert import convert_command
from erasepro_convert.cli.demo import demo_command
from erasepro_convert.cli.evaluate import evaluate_command
from erasepro_convert.cli.evidence import evidence_command
from erasepro_convert.cli.inspect import inspect_command
from erasepro_convert.cli.new import new_command
from erasepro_convert.cli.preview import preview_command
from erasepro_convert.cli.probe import probe_command
from erasepro_convert.cli.recipes import recipes_command
from erasepro_convert.cli.report import report_command
from erasepro_convert.cli.streams import never_failing
from erasepro_convert.cli.stress import stress_command
from erasepro_convert.cli.suggest import suggest_command
from erasepro_convert.cli.ui import ui_command
from erasepro_convert.cli.verify import verify_command
from erasepro_convert.errors import (
    INTERRUPTED,
    EraseproError,
    InterruptedRunError,
    describe_error,
    exit_code_of,
)
from erasepro_convert.library import recipe_names
from erasepro_convert.runtime.memory import configure_allocator
from erasepro_convert.runtime.printable import harmless, quoted
from erasepro_convert.runtime.version import __version__


class MainGroup(DefaultGroup):  # type: ignore[misc]  # the library has no types
    """A group whose help opens with the main command, which needs no name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command by its name, or take the main command where there is none.

        Raises UsageError for a word that is neither a command nor the recipe of the main one, and
        for options before a command.
        """
        if ctx.resilient_parsing:  # a shell wants to know what can come next
            return self._found(ctx, args)
        flags = {o for p in convert_command.params if _is_flag(p) for o in p.opts}
        behind = list(dropwhile(flags.__contains__, args))
        first = behind[0] if behind else ""
        if first in self.commands and behind != args:
            raise click.UsageError(f"options come after the command: {first} {args[0]} …", ctx)
        if first.isalpha() and first not in self.commands and not Path(first).exists():
            self._require_recipe(first, ctx)
        return self._found(ctx, args)

    def _found(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found: tuple[str | None, click.Command | None, list[str]] = super().resolve_command(
            ctx, args
        )
        return found

    def _require_recipe(self, word: str, ctx: click.Context) -> None:
        """Raise UsageError for a word that is not the name of a recipe either."""
        names = recipe_names()
        if word not in names:
            near = get_close_matches(word.lower(), [*self.commands, *names], n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(self.commands)}"
            raise click.UsageError(f"{quoted(word)} is no command and no recipe; {known}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands and options, and what the main command begins with."""
        main = click.Context(convert_command, parent=ctx)
        first = convert_command.params[0]
        items = super().shell_complete(ctx, incomplete)
        items += convert_command.shell_complete(main, incomplete)
        if not incomplete.startswith("-"):
            items += first.shell_complete(main, incomplete)
        return list({item.value: item for item in items}.values())

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show how the main command is called."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] RECIPE IN OUT")
        formatter.write_usage(
            ctx.command_path, "[OPTIONS] --target WORDS --anchor WORDS IN OUT", "   or: "
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the main command's options beside the group's own."""
        main = convert_command
        options = [p for p in main.params + self.get_params(ctx) if isinstance(p, click.Option)]
        rows = [record for option in options if (record := option.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(ctx, formatter)


def _is_flag(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag


@click.group(
    cls=MainGroup,
    default="convert",
    help=convert_command.help,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="erasepro-convert")
def group() -> None:
    """Hold the commands; see MainGroup."""


for command in (
    batch_command,
    card_command,
    check_command,
    convert_command,
    demo_command,
    compare_command,
    completion_command,
    evaluate_command,
    evidence_command,
    inspect_command,
    new_command,
    preview_command,
    probe_command,
    recipes_command,
    report_command,
    stress_command,
    suggest_command,
    ui_command,
    verify_command,
):
    group.add_command(command)


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code; print a known error as a message."""
    # What was done stays done, whether or not somebody reads of it.
    sys.stdout, sys.stderr = never_failing(sys.stdout), never_failing(sys.stderr)
    # A run that is terminated, or whose terminal is closed, must clean up like an interrupted one.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)
    configure_allocator()
    try:
        group.main(args, prog_name="erasepro-convert", standalone_mode=False)
    except click.ClickException as error:
        text = StringIO()
        error.show(text)
        _complain(text.getvalue().rstrip("\n"))
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted: nothing was written")
        sys.exit(INTERRUPTED)
    except InterruptedRunError as error:
        _complain(f"interrupted: {error}")
        sys.exit(error.exit_code)
    except EraseproError as error:
        _complain(f"error: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        _complain(f"error: {describe_error(error)}")
        sys.exit(exit_code_of(error))


def _complain(text: str) -> None:
    """Print what went wrong to standard error; a terminal gets no line that is too long for it.

    A message can have the names of files and words of others, which may be made to do harm.
    """
    text = harmless(text)
    if sys.stderr.isatty():
        from erasepro_convert.cli.line_breaks import wrapped

        text = wrapped(text, get_terminal_size().columns)
    click.echo(text, err=True)
