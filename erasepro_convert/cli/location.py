"""A path or a URL on the command line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


def path(text: str) -> "Location":
    """Read a path or a URL; click's help shows this function's name.

    Raises UsageError for a URL that nothing here can read.
    """
    from erasepro_convert.storage.location import locate

    return locate(text)
