"""The first line of a conversion, which shows before anything slow is imported."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erasepro_convert.storage.location import Location


def announce(source: "Location", *, quiet: bool, to_stderr: bool) -> None:
    """Say what is read, if somebody looks at the stream."""
    stream = sys.stderr if to_stderr else sys.stdout
    if quiet or stream is None or not stream.isatty():  # None: whoever called has closed it
        return
    from erasepro_convert.runtime.printable import printable
    from erasepro_convert.storage.location import file_name

    line = f"reading {printable(file_name(source))} ..."
    print(line.encode(stream.encoding, "backslashreplace").decode(stream.encoding), file=stream)
    stream.flush()
