"""What a shell offers when TAB is pressed, and the command that prints the shell's part of it.

click asks the parameter at the cursor for its ``shell_complete``; the functions for parameters are
here.  Its own scripts are replaced: they cannot offer names and files together, and fish's cuts
lists at the first comma.  Ours are told every value, a line each, files and folders among them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from erasepro_convert.library import SUFFIXES, recipe_names
from erasepro_convert.storage.location import CHECKPOINT_SUFFIXES

PROGRAM, VARIABLE = "erasepro-convert", "_ERASEPRO_CONVERT_COMPLETE"
"""The command, and what click calls the variable that asks it for completions."""

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

BASH = """\
%(complete_func)s() {
    local IFS=$'\\n'
    mapfile -t COMPREPLY < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete "$1")
    [[ ${COMPREPLY[0]} ]] || COMPREPLY=()
}
complete -o filenames -o nosort -F %(complete_func)s %(prog_name)s
"""
"""Where ``filenames`` is set, bash quotes what has to be, and writes no space behind a folder."""

ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a described plain folders
    local value help
    for value help in "${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \\
        %(complete_var)s=zsh_complete $words[1])}"; do
        if [[ -n $help ]]; then
            described+=("${value//:/\\\\:}:$help")
        elif [[ $value == */ ]]; then
            folders+=("$value")
        elif [[ -n $value ]]; then
            plain+=("$value")
        fi
    done
    (( $#described )) && _describe -V commands described -U
    compadd -U -V values -a plain
    compadd -U -V folders -S '' -a folders
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

FISH = """\
function %(complete_func)s
    COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \\
        %(complete_var)s=fish_complete %(prog_name)s
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def complete_recipe(_: click.Context, __: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer the names of recipes, also behind a comma, then recipe files."""
    return _items([*_listed(recipe_names(), start), *_files(start, SUFFIXES)])


def complete_recipe_first(
    ctx: click.Context, parameter: click.Parameter, start: str
) -> list[CompletionItem]:
    """Offer recipes for the first word, unless ``--target`` stands in for it, then checkpoints.

    click takes an argument of any number of words for unfinished, so that it never asks those
    behind it.
    """
    arguments = [one for one in ctx.command.params if isinstance(one, click.Argument)]
    given = [ctx.params.get(one.name or "") for one in arguments]
    is_first = not any(given) and not ctx.params.get("targets")
    return (complete_recipe if is_first else complete_checkpoint)(ctx, parameter, start)


def complete_checkpoint(_: click.Context, __: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer files whose names are those of checkpoints, and folders."""
    return _items(_files(start, CHECKPOINT_SUFFIXES))


def complete_recipe_or_checkpoint(
    ctx: click.Context, parameter: click.Parameter, start: str
) -> list[CompletionItem]:
    """Offer what both others offer, each once."""
    both = [
        *complete_recipe(ctx, parameter, start),
        *complete_checkpoint(ctx, parameter, start),
    ]
    return list({item.value: item for item in both}.values())


def complete_files(*suffixes: str) -> Completer:
    """Return what offers files with some suffixes, and folders."""
    return lambda ctx, parameter, start: _items(_files(start, suffixes))


def complete_list(names: Callable[[], Iterable[str]]) -> Completer:
    """Return what offers names that are separated by commas, each once."""
    return lambda ctx, parameter, start: _items(_listed(names(), start))


def _items(values: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values]


def _listed(names: Iterable[str], start: str) -> Iterator[str]:
    """Give the list so far with each name that can end it."""
    *before, last = start.split(",")
    for name in names:
        if name.startswith(last) and name not in before:
            yield ",".join((*before, name))


def _files(start: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Give the folders, which end in a slash, and the files with some suffixes.

    Hidden ones need a dot to begin with; names that a terminal cannot show are left out.
    """
    folder, slash, name = os.path.expanduser(start).rpartition("/")
    entries: list[os.DirEntry[str]] = []
    with suppress(OSError):  # a folder that is not there, or not ours, has nothing to offer
        entries = sorted(os.scandir(folder + slash or "."), key=lambda entry: entry.name)
    for entry in entries:
        is_wanted = entry.name.startswith(name) and (name or not entry.name.startswith("."))
        if not is_wanted or not entry.name.isprintable():
            continue
        if entry.is_dir():
            yield f"{folder}{slash}{entry.name}/"
        elif entry.name.lower().endswith(suffixes):
            yield f"{folder}{slash}{entry.name}"


# Items take no type at run time before click 8.4, hence the quotes.


class _Complete(ShellComplete):
    """What all shells share: files are listed here."""

    def get_completions(self, args: list[str], incomplete: str) -> "list[CompletionItem[Any]]":
        """Return what can stand at the cursor, with names of files in place of a word for them."""
        found = super().get_completions(args, incomplete)
        kinds = {item.type for item in found}
        items = [item for item in found if item.type == "plain"]
        if kinds & {"file", "dir"}:
            items += _items(_files(incomplete, ("",) if "file" in kinds else ()))
        return items


@add_completion_class
class Bash(_Complete, BashComplete):
    """Completion in bash."""

    source_template = BASH

    def format_completion(self, item: "CompletionItem[Any]") -> str:
        """Return a line with the value."""
        return str(item.value)


@add_completion_class
class Zsh(_Complete, ZshComplete):
    """Completion in zsh."""

    source_template = ZSH

    def format_completion(self, item: "CompletionItem[Any]") -> str:
        """Return two lines: the value, and what it is."""
        return f"{item.value}\n{' '.join((item.help or '').split())}"


@add_completion_class
class Fish(_Complete, FishComplete):
    """Completion in fish."""

    source_template = FISH

    def format_completion(self, item: "CompletionItem[Any]") -> str:
        """Return a line with the value and, where it is known, what it is."""
        told = " ".join((item.help or "").split())
        return f"{item.value}\t{told}" if told else str(item.value)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands, recipe names, options and files.

    For bash, add this line to ~/.bashrc: eval "$(erasepro-convert completion bash)".  For zsh, to
    ~/.zshrc behind compinit: eval "$(erasepro-convert completion zsh)".  For fish, to
    ~/.config/fish/config.fish: erasepro-convert completion fish | source.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, PROGRAM, VARIABLE).source(), nl=False)
