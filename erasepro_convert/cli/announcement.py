"""The first line of a command, which needs no library: it shows at once."""

import sys


def announce(line: str, *, quiet: bool, to_stderr: bool) -> None:
    """Print a line that says what is going on, if somebody looks at the stream."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream.isatty() and not quiet:
        line = line.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        print(line, file=stream, flush=True)
