"""Checkpoints on the command line: paths and URLs, which a shell completes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from erasepro_convert.cli.completion import complete_checkpoint
from erasepro_convert.library import SUFFIXES, recipe_names
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.storage.location import SCHEME, locate

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


def require_no_recipe(value: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Raise BadParameter for a file that is a recipe by its name: arguments were swapped."""
    if ctx and ctx.resilient_parsing:  # a shell wants to know what can come next
        return
    if value.lower().endswith(SUFFIXES) and not Path(value).is_dir():
        raise click.BadParameter(
            f"{quoted(value)} is a recipe by its name, and a checkpoint goes here", ctx, param
        )


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has no arguments here
    """A path or a URL.  Raises UsageError for a URL that nothing here can read."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Location":
        """Read a path or a URL."""
        if self is path:
            require_no_recipe(value, param, ctx)
        return locate(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer checkpoints and folders."""
        return complete_checkpoint(ctx, param, incomplete)


class LocalPath(click.Path):
    """A path, for commands that read no URLs."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Read a path, and refuse a URL in words."""
        if SCHEME.match(str(value)):
            self.fail("this command reads files of this machine: fetch it first", param, ctx)
        require_no_recipe(str(value), param, ctx)
        if str(value) in recipe_names() and not os.path.lexists(value):
            self.fail(
                f"{quoted(str(value))} is the name of a recipe, and a checkpoint goes here",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer checkpoints and folders."""
        return complete_checkpoint(ctx, param, incomplete)


path = PathOrUrl()
any_file = PathOrUrl()
local_path = LocalPath(path_type=Path)
existing_path = LocalPath(path_type=Path, exists=True)
