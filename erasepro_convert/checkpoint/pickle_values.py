"""What a pickle's content is made of, where nothing is imported: names, stand-ins, plain dicts."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable

NAME_SHOWN_LIMIT = 100  # characters of a module's and a class's name in a message


@dataclass(frozen=True, slots=True)
class GlobalName:
    """The name of a global (a class or function) in a pickle; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}", NAME_SHOWN_LIMIT)


class Opaque:
    """A stand-in for an object that a pickle builds and nobody reads; it ignores its content."""

    __slots__ = ()


KEY_TYPES = (str, int, float, bool, type(None), GlobalName, Opaque)
"""Types of dict keys that are cheap to hash."""


def add_items(into: dict[object, object], pairs: Iterable[tuple[object, object]]) -> None:
    """Add pairs of key and value to a dict; torch never writes a key twice.

    Raises CheckpointError before a key is hashed that is not plain: the hash of a tuple recurses.
    """
    for key, value in pairs:
        if type(key) not in KEY_TYPES:
            raise CheckpointError(f"its pickle has a {type(key).__name__} as the key of a dict")
        # Such numbers could all have one hash.
        if type(key) is int and abs(key) >= sys.hash_info.modulus:
            raise CheckpointError("its pickle has a huge number as the key of a dict")
        if key in into:
            raise CheckpointError(f"its pickle sets {printable(str(key))} twice")
        into[key] = value
