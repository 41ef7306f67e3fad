"""Standard output and error that end no command: a reader may leave, and signs may be lacking."""

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _MaybeUnread(FileIO):
    """A stream to somebody who may stop reading; what is written from then on goes nowhere."""

    def write(self, data: "ReadableBuffer") -> int:
        """Write bytes, or drop them where the pipe is closed."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def never_failing(stream: TextIO) -> TextIO:
    """Return a stream of this process that outlives its reader and escapes what it cannot encode.

    What is no stream of the process, such as a test's, is returned as it is.
    """
    if stream not in (sys.__stdout__, sys.__stderr__) or not isinstance(stream, TextIOWrapper):
        return stream
    stream.flush()
    raw = _MaybeUnread(stream.fileno(), "wb", closefd=False)
    return TextIOWrapper(
        BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
