"""A pickle machine that builds data and nothing else.

``pickle`` is a stack machine whose instructions can import and call anything.  This one knows the
instructions that torch.save writes.  A name from the file becomes a ``Named``, what is called or
built becomes what the caller's ``call`` makes of it, and nothing is ever imported.  It also refuses
what crashes or stalls other readers: every kind of dict key but plain ones is refused before it is
hashed, and instructions, memo, stack and pickle have limits.
"""

import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable

# A full training checkpoint with EMA and optimizer state needs about a tenth of each.
PICKLE_LIMIT = 8 << 20  # bytes
INSTRUCTION_LIMIT = 2_000_000
MEMO_LIMIT = 1_000_000
STACK_LIMIT = 100_000
NESTING_LIMIT = 64  # open marks, and tuples within tuples

NAME_LIMIT = 200  # bytes of a module's or class's name
NAME_SHOWN_LIMIT = 100  # characters of both in a message
LONG_LIMIT = 16  # bytes of an integer


TOO_LARGE = (
    f"its pickle has more than {PICKLE_LIMIT} bytes; no checkpoint needs more, since torch tensors "
    "lie beside it (numpy arrays do not: turn them into tensors)"
)


class TruncatedPickleError(CheckpointError):
    """A pickle continues after the bytes that were given."""


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


class PickleMachine:
    """Runs the pickle that starts at ``start`` of ``data``.

    ``call`` gets a global and the arguments that the pickle applies it to; ``load_reference`` gets
    a persistent reference; ``note_global`` gets each global.  What they return goes on the stack.
    After ``run``, ``end`` is the position after the pickle.
    """

    def __init__(
        self,
        data: bytes | bytearray,
        start: int,
        call: Callable[[GlobalName, tuple[object, ...]], object],
        load_reference: Callable[[object], object],
        note_global: Callable[[GlobalName], object],
    ) -> None:
        self._data = data
        self.end = start
        self._call = call
        self._load_reference, self._note_global = load_reference, note_global
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._depths: dict[int, tuple[int, object]] = {}

    def run(self) -> object:
        """Run the pickle and return the object that it holds.

        Raises CheckpointError for a malformed pickle, an instruction that torch does not write, or
        more of anything than a checkpoint needs.
        """
        for _ in range(INSTRUCTION_LIMIT):
            code = self._take(1)[0]
            if code == STOP:
                if len(self._stack) != 1 or self._marks:
                    raise CheckpointError("its pickle is malformed: it ends amid its work")
                return self._stack.pop()
            instruction = INSTRUCTIONS.get(code)
            if instruction is None:
                raise CheckpointError(
                    f"its pickle has an instruction that torch does not write ({code:#04x})"
                )
            instruction(self)
            if len(self._stack) > STACK_LIMIT:
                raise CheckpointError(f"its pickle stacks more than {STACK_LIMIT} objects")
        raise CheckpointError(f"its pickle has more than {INSTRUCTION_LIMIT} instructions")

    def _take(self, count: int) -> bytes | bytearray:
        taken = self._data[self.end : self.end + count]
        if len(taken) < count:
            raise TruncatedPickleError("its pickle is malformed: it ends early")
        self.end += count
        return taken

    def _number(self, layout: struct.Struct) -> int:
        return int(layout.unpack(self._take(layout.size))[0])

    def _text(self, length: int) -> str:
        return decode_utf8(self._take(length))

    def _line(self) -> str:
        end = self._data.find(b"\n", self.end, self.end + NAME_LIMIT + 1)
        if end < 0:
            raise CheckpointError("its pickle is malformed: a name has no end")
        text = self._text(end - self.end)
        self.end += 1
        return text

    def _pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise CheckpointError("its pickle is malformed: it takes what is not there")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise CheckpointError("its pickle is malformed: it takes what is not there")
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _top(self) -> object:
        top = self._pop()
        self._stack.append(top)
        return top

    # One method for each kind of instruction follows.

    def _proto(self) -> None:
        version = self._take(1)[0]
        if not 2 <= version <= 5:
            raise CheckpointError(f"its pickle has version {version}, torch writes 2 to 5")

    def _frame(self) -> None:
        self._number(U64)  # a hint for buffering

    def _mark(self) -> None:
        if len(self._marks) == NESTING_LIMIT:
            raise CheckpointError("its pickle is nested too deep")
        self._marks.append(len(self._stack))

    def _integer(self, layout: struct.Struct) -> None:
        self._stack.append(self._number(layout))

    def _long(self) -> None:
        length = self._take(1)[0]
        if length > LONG_LIMIT:
            raise CheckpointError(f"its pickle has an integer of {length} bytes")
        self._stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def _double(self) -> None:
        self._stack.append(DOUBLE.unpack(self._take(8))[0])

    def _string(self, layout: struct.Struct) -> None:
        self._stack.append(self._text(self._number(layout)))

    def _raw(self, layout: struct.Struct) -> None:
        self._stack.append(bytes(self._take(self._number(layout))))

    def _constant(self, value: object) -> None:
        self._stack.append(value)

    def _byte_array(self) -> None:
        self._take(self._number(U64))
        self._stack.append(Opaque())

    def _set_of(self) -> None:
        self._pop_to_mark()
        self._stack.append(Opaque())

    def _add_items(self) -> None:
        self._pop_to_mark()
        if type(self._top()) is not Opaque:
            raise CheckpointError("its pickle is malformed: it adds to what is no set")

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _short_tuple(self, length: int) -> None:
        self._push_tuple(tuple(reversed([self._pop() for _ in range(length)])))

    def _long_tuple(self) -> None:
        self._push_tuple(tuple(self._pop_to_mark()))

    def _push_tuple(self, made: tuple[object, ...]) -> None:
        depths = (self._depths.get(id(part), (0, None))[0] for part in made)
        depth = 1 + max(depths, default=0)
        if depth > NESTING_LIMIT:
            raise CheckpointError("its pickle is nested too deep")
        # The tuple is kept, so that no other object gets its id.
        self._depths[id(made)] = depth, made
        self._stack.append(made)

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[object]) -> None:
        into = self._top()
        if type(into) is list:
            into.extend(values)
        elif type(into) is not Opaque:
            raise CheckpointError("its pickle is malformed: it appends to what is no list")

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._pop_to_mark())

    def _set(self, pairs: list[object]) -> None:
        into = self._top()
        if len(pairs) % 2:
            raise CheckpointError("its pickle is malformed: a key has no value")
        if type(into) is dict:
            add_items(into, zip(pairs[::2], pairs[1::2], strict=True))
        elif type(into) is not Opaque:
            raise CheckpointError("its pickle is malformed: it sets items of what is no dict")

    def _put(self, layout: struct.Struct) -> None:
        self._memo[self._number(layout)] = self._top()
        self._bound_memo()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()
        self._bound_memo()

    def _bound_memo(self) -> None:
        if len(self._memo) > MEMO_LIMIT:
            raise CheckpointError(f"its pickle remembers more than {MEMO_LIMIT} objects")

    def _get(self, layout: struct.Struct) -> None:
        key = self._number(layout)
        if key not in self._memo:
            raise CheckpointError("its pickle is malformed: it recalls what it never made")
        self._stack.append(self._memo[key])

    def _global(self) -> None:
        module = self._line()
        self._stack.append(self._note_global(GlobalName(module, self._line())))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("its pickle is malformed: a global's name is no text")
        if max(len(module), len(name)) > NAME_LIMIT:
            raise CheckpointError(f"its pickle names a global of more than {NAME_LIMIT} characters")
        self._stack.append(self._note_global(GlobalName(module, name)))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not GlobalName or type(arguments) is not tuple:
            raise CheckpointError("its pickle calls what is no function")
        self._stack.append(self._call(function, arguments))

    def _build(self) -> None:
        self._pop()  # attributes are not needed
        if type(self._top()) not in (dict, Opaque):
            raise CheckpointError("its pickle tries to change what was made already")

    def _reference(self) -> None:
        self._stack.append(self._load_reference(self._pop()))


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


def decode_utf8(raw: bytes | bytearray) -> str:
    """Decode UTF-8 text.  Raises CheckpointError."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError("its pickle is malformed: a text is not UTF-8") from error


U8, U16, U32, U64 = (struct.Struct("<" + code) for code in "BHIQ")
I32, DOUBLE = struct.Struct("<i"), struct.Struct(">d")
STOP = ord(".")

INSTRUCTIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: PickleMachine._proto,
    0x95: PickleMachine._frame,
    ord("("): PickleMachine._mark,
    ord("J"): lambda m: m._integer(I32),
    ord("K"): lambda m: m._integer(U8),
    ord("M"): lambda m: m._integer(U16),
    0x8A: PickleMachine._long,
    ord("G"): PickleMachine._double,
    ord("N"): lambda m: m._constant(None),
    0x88: lambda m: m._constant(True),
    0x89: lambda m: m._constant(False),
    ord("X"): lambda m: m._string(U32),
    0x8C: lambda m: m._string(U8),
    ord("U"): lambda m: m._string(U8),  # how Python 2 wrote names
    ord("T"): lambda m: m._string(U32),
    ord("C"): lambda m: m._raw(U8),
    ord("B"): lambda m: m._raw(U32),
    0x96: PickleMachine._byte_array,
    0x8F: lambda m: m._constant(Opaque()),
    0x90: PickleMachine._add_items,
    0x91: PickleMachine._set_of,
    ord("]"): PickleMachine._empty_list,
    ord("}"): PickleMachine._empty_dict,
    ord(")"): lambda m: m._short_tuple(0),
    0x85: lambda m: m._short_tuple(1),
    0x86: lambda m: m._short_tuple(2),
    0x87: lambda m: m._short_tuple(3),
    ord("t"): PickleMachine._long_tuple,
    ord("a"): PickleMachine._append,
    ord("e"): PickleMachine._appends,
    ord("s"): PickleMachine._set_item,
    ord("u"): PickleMachine._set_items,
    ord("q"): lambda m: m._put(U8),
    ord("r"): lambda m: m._put(U32),
    0x94: PickleMachine._memoize,
    ord("h"): lambda m: m._get(U8),
    ord("j"): lambda m: m._get(U32),
    ord("c"): PickleMachine._global,
    0x93: PickleMachine._stack_global,
    ord("R"): PickleMachine._reduce,
    0x81: PickleMachine._reduce,  # NEWOBJ: a class and its arguments
    ord("b"): PickleMachine._build,
    ord("Q"): PickleMachine._reference,
}
"""The instructions that torch.save writes, in any pickle protocol from 2 to 5.  It cannot write
buffers outside of the pickle (0x97), which would lie in another file."""
