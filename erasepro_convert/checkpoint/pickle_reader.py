"""Read the bytes of a pickle one after another: numbers, texts and lines."""

import struct

from erasepro_convert.errors import CheckpointError

PICKLE_LIMIT = 8 << 20
"""Bytes; a full training checkpoint with EMA and optimizer state needs about a tenth."""
NAME_LIMIT = 200
"""Bytes of a module's or a class's name."""

TOO_LARGE = (
    f"its pickle has more than {PICKLE_LIMIT} bytes; no checkpoint needs more, since torch tensors "
    "lie beside it (numpy arrays do not: turn them into tensors)"
)

U8, U16, U32, U64 = (struct.Struct("<" + code) for code in "BHIQ")
I32, DOUBLE = struct.Struct("<i"), struct.Struct(">d")


class TruncatedPickleError(CheckpointError):
    """A pickle continues after the bytes that were given."""


class PickleReader:
    """Reads ``data`` from ``position`` on, which moves with every read."""

    def __init__(self, data: bytes | bytearray, position: int) -> None:
        self._data = data
        self.position = position

    def take(self, count: int) -> bytes | bytearray:
        """Read ``count`` bytes.  Raises TruncatedPickleError where there are fewer."""
        taken = self._data[self.position : self.position + count]
        if len(taken) < count:
            raise TruncatedPickleError("its pickle is malformed: it ends early")
        self.position += count
        return taken

    def number(self, layout: struct.Struct) -> int:
        """Read an integer."""
        return int(layout.unpack(self.take(layout.size))[0])

    def double(self) -> float:
        """Read a floating-point number."""
        return float(DOUBLE.unpack(self.take(DOUBLE.size))[0])

    def text(self, length: int) -> str:
        """Read ``length`` bytes as UTF-8.  Raises CheckpointError."""
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise CheckpointError("its pickle is malformed: a text is not UTF-8") from error

    def line(self) -> str:
        """Read a name that ends with its line.  Raises CheckpointError for an overlong one."""
        end = self._data.find(b"\n", self.position, self.position + NAME_LIMIT + 1)
        if end < 0:
            raise CheckpointError("its pickle is malformed: a name has no end")
        name = self.text(end - self.position)
        self.position += 1
        return name
