"""A pickle machine that builds data and nothing else.

``pickle`` is a stack machine whose instructions can import and call anything.  This one knows the
instructions that torch.save writes.  A name from the file becomes a ``GlobalName``, what is called
or built becomes what the caller's ``call`` makes of it, and nothing is ever imported.  It also
refuses what crashes or stalls other readers: every kind of dict key but plain ones is refused
before it is hashed, and instructions, memo, stack and pickle have limits.
"""

import struct
from collections.abc import Callable

from erasepro_convert.checkpoint.pickle_reader import (
    I32,
    NAME_LIMIT,
    U8,
    U16,
    U32,
    U64,
    PickleReader,
)
from erasepro_convert.checkpoint.pickle_values import GlobalName, Opaque, add_items
from erasepro_convert.errors import CheckpointError

# A full training checkpoint with EMA and optimizer state needs about a tenth of each.
INSTRUCTION_LIMIT = 2_000_000
MEMO_LIMIT = 1_000_000
STACK_LIMIT = 100_000
NESTING_LIMIT = 64  # open marks, and tuples within tuples

LONG_LIMIT = 16  # bytes of an integer


class PickleMachine:
    """Runs the pickle that starts at ``start`` of ``data``.

    ``call`` gets a global and the arguments that the pickle applies it to; ``load_reference`` gets
    a persistent reference; ``note_global`` gets each global.  What they return goes on the stack.
    """

    def __init__(
        self,
        data: bytes | bytearray,
        start: int,
        call: Callable[[GlobalName, tuple[object, ...]], object],
        load_reference: Callable[[object], object],
        note_global: Callable[[GlobalName], object],
    ) -> None:
        self._reader = PickleReader(data, start)
        self._call = call
        self._load_reference, self._note_global = load_reference, note_global
        self._stack: list[object] = []
        self._marks: list[int] = []
        """The heights of the stack at which marks were set."""
        self._memo: dict[int, object] = {}
        self._tuple_depths: dict[int, tuple[int, object]] = {}
        """The nesting depth of each tuple, by its id."""

    @property
    def end(self) -> int:
        """The position after what has been read; after ``run``, the position after the pickle."""
        return self._reader.position

    def run(self) -> object:
        """Run the pickle and return the object that it holds.

        Raises CheckpointError for a malformed pickle, an instruction that torch does not write, or
        more of anything than a checkpoint needs.
        """
        for _ in range(INSTRUCTION_LIMIT):
            code = self._reader.take(1)[0]
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
        """Return the object on top of the stack, which stays there."""
        top = self._pop()
        self._stack.append(top)
        return top

    # One method for each kind of instruction follows.

    def _protocol(self) -> None:
        version = self._reader.take(1)[0]
        if not 2 <= version <= 5:
            raise CheckpointError(f"its pickle has version {version}, torch writes 2 to 5")

    def _frame(self) -> None:
        self._reader.number(U64)  # a hint for buffering

    def _mark(self) -> None:
        if len(self._marks) == NESTING_LIMIT:
            raise CheckpointError("its pickle is nested too deep")
        self._marks.append(len(self._stack))

    def _integer(self, layout: struct.Struct) -> None:
        self._stack.append(self._reader.number(layout))

    def _long(self) -> None:
        length = self._reader.take(1)[0]
        if length > LONG_LIMIT:
            raise CheckpointError(f"its pickle has an integer of {length} bytes")
        self._stack.append(int.from_bytes(self._reader.take(length), "little", signed=True))

    def _double(self) -> None:
        self._stack.append(self._reader.double())

    def _string(self, layout: struct.Struct) -> None:
        self._stack.append(self._reader.text(self._reader.number(layout)))

    def _bytes(self, layout: struct.Struct) -> None:
        self._stack.append(bytes(self._reader.take(self._reader.number(layout))))

    def _constant(self, value: object) -> None:
        self._stack.append(value)

    def _byte_array(self) -> None:
        self._reader.take(self._reader.number(U64))
        self._stack.append(Opaque())

    def _frozen_set(self) -> None:
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

    def _push_tuple(self, items: tuple[object, ...]) -> None:
        depths = (self._tuple_depths.get(id(part), (0, None))[0] for part in items)
        depth = 1 + max(depths, default=0)
        if depth > NESTING_LIMIT:
            raise CheckpointError("its pickle is nested too deep")
        # The tuple is kept, so that no other object gets its id.
        self._tuple_depths[id(items)] = depth, items
        self._stack.append(items)

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[object]) -> None:
        top = self._top()
        if type(top) is list:
            top.extend(values)
        elif type(top) is not Opaque:
            raise CheckpointError("its pickle is malformed: it appends to what is no list")

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._pop_to_mark())

    def _set(self, pairs: list[object]) -> None:
        top = self._top()
        if len(pairs) % 2:
            raise CheckpointError("its pickle is malformed: a key has no value")
        if type(top) is dict:
            add_items(top, zip(pairs[::2], pairs[1::2], strict=True))
        elif type(top) is not Opaque:
            raise CheckpointError("its pickle is malformed: it sets items of what is no dict")

    def _remember(self, layout: struct.Struct) -> None:
        self._memo[self._reader.number(layout)] = self._top()
        self._limit_memo()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()
        self._limit_memo()

    def _limit_memo(self) -> None:
        if len(self._memo) > MEMO_LIMIT:
            raise CheckpointError(f"its pickle remembers more than {MEMO_LIMIT} objects")

    def _recall(self, layout: struct.Struct) -> None:
        key = self._reader.number(layout)
        if key not in self._memo:
            raise CheckpointError("its pickle is malformed: it recalls what it never made")
        self._stack.append(self._memo[key])

    def _global(self) -> None:
        module = self._reader.line()
        self._stack.append(self._note_global(GlobalName(module, self._reader.line())))

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


STOP = ord(".")

INSTRUCTIONS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: PickleMachine._protocol,  # PROTO
    0x95: PickleMachine._frame,  # FRAME
    ord("("): PickleMachine._mark,  # MARK
    ord("J"): lambda m: m._integer(I32),  # BININT
    ord("K"): lambda m: m._integer(U8),  # BININT1
    ord("M"): lambda m: m._integer(U16),  # BININT2
    0x8A: PickleMachine._long,  # LONG1
    ord("G"): PickleMachine._double,  # BINFLOAT
    ord("N"): lambda m: m._constant(None),  # NONE
    0x88: lambda m: m._constant(True),  # NEWTRUE
    0x89: lambda m: m._constant(False),  # NEWFALSE
    ord("X"): lambda m: m._string(U32),  # BINUNICODE
    0x8C: lambda m: m._string(U8),  # SHORT_BINUNICODE
    ord("U"): lambda m: m._string(U8),  # SHORT_BINSTRING: how Python 2 wrote names
    ord("T"): lambda m: m._string(U32),  # BINSTRING
    ord("C"): lambda m: m._bytes(U8),  # SHORT_BINBYTES
    ord("B"): lambda m: m._bytes(U32),  # BINBYTES
    0x96: PickleMachine._byte_array,  # BYTEARRAY8
    0x8F: lambda m: m._constant(Opaque()),  # EMPTY_SET
    0x90: PickleMachine._add_items,  # ADDITEMS
    0x91: PickleMachine._frozen_set,  # FROZENSET
    ord("]"): PickleMachine._empty_list,  # EMPTY_LIST
    ord("}"): PickleMachine._empty_dict,  # EMPTY_DICT
    ord(")"): lambda m: m._short_tuple(0),  # EMPTY_TUPLE
    0x85: lambda m: m._short_tuple(1),  # TUPLE1
    0x86: lambda m: m._short_tuple(2),  # TUPLE2
    0x87: lambda m: m._short_tuple(3),  # TUPLE3
    ord("t"): PickleMachine._long_tuple,  # TUPLE
    ord("a"): PickleMachine._append,  # APPEND
    ord("e"): PickleMachine._appends,  # APPENDS
    ord("s"): PickleMachine._set_item,  # SETITEM
    ord("u"): PickleMachine._set_items,  # SETITEMS
    ord("q"): lambda m: m._remember(U8),  # BINPUT
    ord("r"): lambda m: m._remember(U32),  # LONG_BINPUT
    0x94: PickleMachine._memoize,  # MEMOIZE
    ord("h"): lambda m: m._recall(U8),  # BINGET
    ord("j"): lambda m: m._recall(U32),  # LONG_BINGET
    ord("c"): PickleMachine._global,  # GLOBAL
    0x93: PickleMachine._stack_global,  # STACK_GLOBAL
    ord("R"): PickleMachine._reduce,  # REDUCE
    0x81: PickleMachine._reduce,  # NEWOBJ: a class and its arguments
    ord("b"): PickleMachine._build,  # BUILD
    ord("Q"): PickleMachine._reference,  # BINPERSID
}
"""The instructions that torch.save writes, in any pickle protocol from 2 to 5, with their names in
``pickletools``.  It cannot write buffers outside of the pickle (NEXT_BUFFER), which would lie in
another file."""
