"""Checkpoints on the command line: paths and URLs, which a shell completes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from erasepro_convert.cli.completion import complete_checkpoint
from erasepro_convert.storage.location import SCHEME, locate

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


class PathOrUrl(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has no arguments here
    """A path or a URL.  Raises UsageError for a URL that nothing here can read."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Location":
        """Read a path or a URL."""
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
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer checkpoints and folders."""
        return complete_checkpoint(ctx, param, incomplete)


path = PathOrUrl()
local_path = LocalPath(path_type=Path)
existing_path = LocalPath(path_type=Path, exists=True)
