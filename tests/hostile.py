"""Hostile and broken checkpoint files, built byte by byte, and the good files beside them.

Nothing here is made by the writers that the reader is meant for, except for the good files: a
writer would refuse to tell most of these lies.  Live payloads create the file ``PAYLOAD`` in the
working directory.
"""

import io
import json
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.torch import save

from erasepro_convert.errors import CheckpointError

PAYLOAD = "payload-was-run"
MESSAGE_LIMIT = 1000

State = dict[str, torch.Tensor]
Builder = Callable[[], bytes]


@dataclass(frozen=True)
class Hostile:
    """A file to refuse: its content, and what the refusal says."""

    name: str
    build: Builder
    message: str = ""


def require_clear(error: CheckpointError, name: str) -> None:
    """A refusal is one short line that begins with the file's name and can be printed."""
    text = str(error)
    assert text.startswith(f"{name}: "), text[:200]
    assert text.isprintable(), ascii(text[:2000])
    assert len(text) < MESSAGE_LIMIT, (len(text), text[:200])


# --- Pickles ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """Instructions that leave one object on the stack."""

    code: bytes


def encoded(value: object) -> bytes:  # noqa: PLR0911
    """The instructions that build ``value``; texts, numbers, tuples, lists, dicts, and code."""
    match value:
        case Code():
            return value.code
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + counted(value.encode("utf-8", "surrogatepass"))
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encoded(k) + encoded(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def counted(raw: bytes) -> bytes:
    return struct.pack("<I", len(raw)) + raw


def named(module: str, name: str) -> Code:
    return Code(f"c{module}\n{name}\n".encode())


def named_by_stack(module: str, name: str) -> Code:
    return Code(encoded(module) + encoded(name) + b"\x93")


def call(function: Code, *arguments: object) -> Code:
    return Code(function.code + encoded(arguments) + b"R")


def storage(
    kind: str = "FloatStorage", key: object = "0", numel: object = 3, more: tuple[None, ...] = ()
) -> Code:
    """A reference to a storage; in a legacy file there is ``more``, a None."""
    return Code(encoded(("storage", named("torch", kind), key, "cpu", numel, *more)) + b"Q")


REBUILD = named("torch._utils", "_rebuild_tensor_v2")
ORDERED_DICT = named("collections", "OrderedDict")


def view(
    shape: object = (3,), stride: object = (1,), offset: object = 0, of: object = None
) -> Code:
    return call(
        REBUILD, storage() if of is None else of, offset, shape, stride, False, call(ORDERED_DICT)
    )


def marked(marks: object) -> Code:
    """A tensor as torch writes it where its values are to be changed by the reader."""
    return call(REBUILD, storage(), 0, (3,), (1,), False, call(ORDERED_DICT), marks)


def with_attributes(rebuild: Code) -> Code:
    """A tensor as torch writes it where Python attributes were set on it."""
    arguments = (storage(), 0, (3,), (1,), False, None)
    kind = named("torch", "Tensor")
    return call(named("torch._tensor", "_rebuild_from_type_v2"), rebuild, kind, arguments, {})


SECOND = view((5,), of=storage("ByteStorage", "1", 5))
BODY = {"a": view(), "b": SECOND}
VALUES: State = {"a": torch.arange(3.0), "b": torch.arange(1, 6, dtype=torch.uint8)}
STORAGES = {key: value.numpy().tobytes() for key, value in zip("01", VALUES.values(), strict=True)}


def pickled(value: object, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + encoded(value) + b"."


# --- Zip -------------------------------------------------------------------------------------

LOCAL = ("4s5H3I2H", "signature version flags method time date crc packed size name_length extra")
CENTRAL = (
    "4s6H3I5H2I",
    "signature maker version flags method time date crc packed size name_length extra "
    "comment disk internal external header",
)
END = ("4s4H2IH", "signature disk first_disk here count size start comment")
END64 = ("4sQ2H2I4Q", "signature length maker version disk first_disk here count size start")
LOCATOR = ("4sIQI", "signature disk end disks")

Fields = Mapping[str, int | bytes]


def record(layout: tuple[str, str], *fields: Fields) -> bytes:
    """A fixed record of the zip format; fields not given are zero, later ones win."""
    form, names = layout
    values: dict[str, int | bytes] = dict.fromkeys(names.split(), 0)
    for changes in fields:
        values |= {name: value for name, value in changes.items() if name in values}
    return struct.pack(f"<{form}", *values.values())


@dataclass(frozen=True)
class Member:
    """A member; ``local`` and ``central`` replace what the two headers would truly say."""

    name: str | bytes
    data: bytes
    local: Fields = field(default_factory=dict)
    central: Fields = field(default_factory=dict)
    local_name: bytes | None = None
    local_extra: bytes = b""
    central_extra: bytes = b""
    after: bytes = b""

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()


@dataclass(frozen=True)
class Archive:
    """A zip file; the fields replace what its end records would truly say."""

    members: Sequence[Member]
    before: bytes = b""
    before_directory: bytes = b""
    after_directory: bytes = b""
    end: Fields = field(default_factory=dict)
    end64: Fields | None = None
    locator: Fields = field(default_factory=dict)
    after: bytes = b""

    def build(self) -> bytes:
        content, directory = self.before, b""
        for member in self.members:
            raw, crc, size = member.raw_name, zlib.crc32(member.data), len(member.data)
            true: dict[str, int | bytes] = {"crc": crc, "packed": size, "size": size, "version": 20}
            true["name_length"] = len(raw)
            entry = {**true, "signature": b"PK\1\2", "header": len(content)}
            directory += record(
                CENTRAL, entry, {"extra": len(member.central_extra)}, member.central
            )
            directory += raw + member.central_extra
            local_name = raw if member.local_name is None else member.local_name
            true |= {"signature": b"PK\3\4", "name_length": len(local_name)}
            content += record(LOCAL, true, {"extra": len(member.local_extra)}, member.local)
            content += local_name + member.local_extra + member.data + member.after
        content += self.before_directory
        start, count = len(content), len(self.members)
        place: Fields = {"here": count, "count": count, "size": len(directory), "start": start}
        content += directory + self.after_directory
        if self.end64 is not None:
            fixed: Fields = {"signature": b"PK\6\6", "length": 44}
            locator: Fields = {"signature": b"PK\6\7", "end": len(content), "disks": 1}
            content += record(END64, fixed, place, self.end64)
            content += record(LOCATOR, locator, self.locator)
        return content + record(END, {"signature": b"PK\5\6"}, place, self.end) + self.after


def members(data_pkl: bytes | None = None, root: str = "x") -> list[Member]:
    """What torch writes for ``VALUES``: pickle, byte order, storages, version."""
    data = pickled(BODY) if data_pkl is None else data_pkl
    contents = {"data.pkl": data, "byteorder": b"little"}
    contents |= {f"data/{key}": value for key, value in STORAGES.items()}
    contents["version"] = b"3\n"
    return [Member(f"{root}/{name}", value) for name, value in contents.items()]


def changed(which: str, /, **changes: object) -> list[Member]:
    """The good members, one of them with fields of its own."""
    result = []
    for member in members():
        if member.name == f"x/{which}":
            result.append(Member(**{**vars(member), **changes}))
        else:
            result.append(member)
    return result


def in_zip(data_pkl: bytes) -> bytes:
    return Archive(members(data_pkl)).build()


def descriptor(data: bytes, *, crc: int | None = None, size: int | None = None) -> bytes:
    size = len(data) if size is None else size
    crc = zlib.crc32(data) if crc is None else crc
    return struct.pack("<4s3I", b"PK\7\10", crc, size, size)


FIRST = STORAGES["0"]
LEFT_OUT: Fields = {"flags": 8, "crc": 0, "packed": 0, "size": 0}


def described(after: bytes, **changes: object) -> list[Member]:
    """Storage 0 with its sizes behind it, as torch writes them."""
    fields = {"local": LEFT_OUT, "central": {"flags": 8}, "after": after, **changes}
    return changed("data/0", **fields)


def zip64(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)


def overlapping() -> bytes:
    """A storage that reaches into the next member, as both of its headers say."""
    longer: Fields = {"size": len(FIRST) + 40, "packed": len(FIRST) + 40, "crc": 0}
    return Archive(changed("data/0", local=longer, central=longer)).build()


def inside_another() -> bytes:
    """A member within the bytes of another: a pickle that only one of two readers sees."""
    inner = Archive([Member("x/other", EVIL)]).build()
    listed = changed("version", data=inner)
    start = Archive(listed).build().index(inner)
    fields: Fields = {"header": start, "crc": zlib.crc32(EVIL), "size": len(EVIL)}
    fields = {**fields, "packed": len(EVIL)}
    whole = Archive([*listed, Member("x/other", b"", central=fields)])
    return whole.build()


def same_place() -> bytes:
    """Two names for one local header."""
    listed = members()
    extra = Member("x/data/2", b"", central={"header": 0})
    return Archive([*listed, extra]).build()


def with_comment() -> bytes:
    inner = Archive(members()).build()
    outer = Archive(members(), end={"comment": len(inner)}, after=inner)
    return outer.build()


def rezipped(method: int) -> bytes:
    """The good members, written by Python."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member in members():
            archive.writestr(str(member.name), member.data)
    return buffer.getvalue()


def zip_cases() -> Iterator[Hostile]:
    lie, broken_ends = "not what the directory says", "end records that do not agree"
    archives: dict[str, tuple[Archive, str]] = {
        "member twice": (Archive([*members(), members()[2]]), "a member twice"),
        "member twice, other content": (
            Archive([*members(), Member("x/data.pkl", EVIL)]),
            "a member twice",
        ),
        "member twice, evil first": (
            Archive([Member("x/data.pkl", EVIL), *members()]),
            "a member twice",
        ),
        "member twice but for case": (
            Archive([*members(), Member("x/DATA.pkl", EVIL)]),
            "a member twice",
        ),
        "root in other case": (Archive([*members(), Member("X/data/2", b"")]), "torch does not"),
        "local name": (Archive(changed("data/0", local_name=b"x/data/9")), lie),
        "local name of other length": (Archive(changed("data/0", local_name=b"x/data/")), lie),
        "local size": (Archive(changed("data/0", local={"size": 11})), lie),
        "local packed size": (Archive(changed("data/0", local={"packed": 11})), lie),
        "both local sizes": (Archive(changed("data/0", local={"size": 8, "packed": 8})), lie),
        "local CRC": (Archive(changed("data/0", local={"crc": 1})), lie),
        "local flags": (Archive(changed("data/0", local={"flags": 0x800})), lie),
        "local method": (Archive(changed("data/0", local={"method": 8})), lie),
        "local signature": (Archive(changed("data/0", local={"signature": b"PK\3\5"})), lie),
        "local extra field too long": (Archive(changed("data/0", local={"extra": 60000})), lie),
        "local zip64 lacks sizes": (
            Archive(changed("data/0", local={"size": 2**32 - 1, "packed": 2**32 - 1})),
            "lacks the size",
        ),
        "local zip64 lies": (
            Archive(
                changed(
                    "data/0",
                    local={"size": 2**32 - 1, "packed": 2**32 - 1},
                    local_extra=zip64(8, 8),
                )
            ),
            lie,
        ),
        "central size": (Archive(changed("data/0", central={"size": 8})), "packed"),
        "both central sizes": (Archive(changed("data/0", central={"size": 8, "packed": 8})), lie),
        "central CRC": (Archive(changed("data/0", central={"crc": 5})), lie),
        "central header elsewhere": (Archive(changed("data/0", central={"header": 3})), lie),
        "central header past the end": (
            Archive(changed("data/0", central={"header": 2**31})),
            lie,
        ),
        "central zip64 past the end": (
            Archive(
                changed("data/0", central={"header": 2**32 - 1}, central_extra=zip64(2**64 - 1))
            ),
            lie,
        ),
        "two zip64 fields": (
            Archive(
                changed(
                    "data.pkl",
                    central={"header": 2**32 - 1},
                    central_extra=zip64(400) + zip64(0),
                )
            ),
            "broken directory",
        ),
        "central name too long": (
            Archive(changed("version", central={"name_length": 60000})),
            "broken directory",
        ),
        "central signature": (
            Archive(changed("data/0", central={"signature": b"PK\1\3"})),
            "broken directory",
        ),
        "another disk": (Archive(changed("data/0", central={"disk": 1})), "packed or encrypted"),
        "encrypted": (
            Archive(changed("data/0", central={"flags": 1}, local={"flags": 1})),
            "packed or encrypted",
        ),
        "strongly encrypted": (
            Archive(changed("data.pkl", central={"flags": 0x41}, local={"flags": 0x41})),
            "packed or encrypted",
        ),
        "central encrypted only": (Archive(changed("data/0", central={"flags": 1})), "encrypted"),
        "method claims deflate": (
            Archive(changed("data/0", central={"method": 8}, local={"method": 8})),
            "packed",
        ),
        "bytes before": (Archive(members(), before=b"PK\3\4" + bytes(60)), "begin with its first"),
        "headers before": (Archive(members(), before=bytes(64)), "neither"),
        "a whole zip before": (
            Archive(members(), before=Archive(members(EVIL)).build()),
            "begin with its first",
        ),
        "a safetensors file before": (
            Archive(members(), before=safetensors({"a": entry(0, 4)}, bytes(4))),
            "end at byte",
        ),
        "bytes after": (Archive(members(), after=b"x"), "follows it"),
        "zeros after": (Archive(members(), after=bytes(22)), "follows it"),
        "a comment": (Archive(members(), end={"comment": 5}, after=b"hello"), "follows it"),
        "an empty comment promised": (Archive(members(), end={"comment": 5}), "follows it"),
        "gap between members": (Archive(changed("data/0", after=bytes(5))), lie),
        "gap before the directory": (Archive(members(), before_directory=bytes(9)), lie),
        "gap after the directory": (Archive(members(), after_directory=bytes(9)), "no member"),
        "descriptor missing": (Archive(described(b"")), lie),
        "descriptor without signature": (Archive(described(descriptor(FIRST)[4:])), lie),
        "descriptor with wrong CRC": (Archive(described(descriptor(FIRST, crc=1))), lie),
        "descriptor with wrong size": (Archive(described(descriptor(FIRST, size=8))), lie),
        "descriptor with wrong signature": (
            Archive(described(b"PK\7\7" + descriptor(FIRST)[4:])),
            lie,
        ),
        "descriptor too long": (Archive(described(descriptor(FIRST) + bytes(4))), lie),
        "descriptor not announced": (
            Archive(changed("data/0", after=descriptor(FIRST))),
            lie,
        ),
        "descriptor and other local sizes": (
            Archive(described(descriptor(FIRST), local={"flags": 8, "crc": 0, "size": 4})),
            lie,
        ),
        "huge directory": (Archive(members(), end={"size": 2**31}), "a directory of"),
        "huge count": (Archive(members(), end={"count": 65000, "here": 65000}), "cut short"),
        "count one short": (Archive(members(), end={"count": 4, "here": 4}), "broken directory"),
        "count zero": (Archive(members(), end={"count": 0, "here": 0}), "broken directory"),
        "directory start": (Archive(members(), end={"start": 0}), "no member"),
        "directory start past the end": (Archive(members(), end={"start": 2**31}), "no member"),
        "several disks": (Archive(members(), end={"disk": 1}), "several files"),
        "entries elsewhere": (Archive(members(), end={"here": 1}), "several files"),
        "zip64 count": (Archive(members(), end64={"count": 6, "here": 6}), broken_ends),
        "zip64 size": (Archive(members(), end64={"size": 1}), broken_ends),
        "zip64 start": (Archive(members(), end64={"start": 1}), broken_ends),
        "zip64 huge": (
            Archive(members(), end={"size": 2**32 - 1}, end64={"size": 2**63}),
            "a directory of",
        ),
        "zip64 huge count": (
            Archive(
                members(),
                end={"count": 2**16 - 1, "here": 2**16 - 1},
                end64={"count": 2**63, "here": 2**63},
            ),
            "cut short",
        ),
        "zip64 disk": (Archive(members(), end64={"disk": 1}), broken_ends),
        "zip64 signature": (Archive(members(), end64={"signature": b"PK\6\5"}), broken_ends),
        "zip64 length": (Archive(members(), end64={"length": 45}), broken_ends),
        "zip64 elsewhere": (Archive(members(), end64={}, locator={"end": 0}), broken_ends),
        "zip64 past the end": (Archive(members(), end64={}, locator={"end": 2**63}), broken_ends),
        "zip64 disks": (Archive(members(), end64={}, locator={"disks": 2}), broken_ends),
        "zip64 missing": (
            Archive(members(), end={"start": 2**32 - 1, "size": 2**32 - 1}),
            "a directory of",
        ),
        "wrong CRC of the pickle": (
            Archive(changed("data.pkl", local={"crc": 1}, central={"crc": 1})),
            "damaged",
        ),
        "wrong CRC of a storage": (
            Archive(changed("data/1", local={"crc": 1}, central={"crc": 1})),
            "damaged",
        ),
        "outside of the root": (Archive([*members(), Member("evil.py", b"")]), "does not write"),
        "above the root": (Archive([*members(), Member("../evil.py", b"")]), "does not write"),
        "two pickles": (Archive([*members(), *members(root="y")]), "not one that torch.save"),
        "no pickle": (Archive(members()[1:]), "not one that torch.save"),
        "no member": (Archive([], before=b"PK\3\4"), "begin with its first"),
        "pickle deeper": (Archive(members(root="x/y")), "not one that torch.save"),
        "TorchScript": (
            Archive([*members(), Member("x/constants.pkl", b"\x80\x02).")]),
            "TorchScript",
        ),
        "TorchScript but for case": (
            Archive([*members(), Member("x/Constants.PKL", b"\x80\x02).")]),
            "TorchScript",
        ),
        "big-endian": (Archive(changed("byteorder", data=b"big")), "big-endian"),
        "big-endian but for case": (
            Archive(changed("byteorder", name="x/BYTEORDER", data=b"big")),
            "big-endian",
        ),
        "no such byte order": (Archive(changed("byteorder", data=b"little ")), "big-endian"),
        "version, and more": (Archive(changed("version", data=b"3 x")), "torch reads 1"),
        "version of other digits": (
            Archive(changed("version", data="٣".encode())),
            "torch reads 1",
        ),
        "version of escapes": (Archive(changed("version", data=b"\x1b" * 999)), "torch reads 1"),
        "two versions": (
            Archive([*members(), Member("x/.data/version", b"99\n")]),
            "torch reads 1",
        ),
        "two versions, the other one known": (
            Archive([*changed("version", data=b"99\n"), Member("x/.data/version", b"3\n")]),
            "torch reads 1",
        ),
        "lacks a storage": (Archive([m for m in members() if m.name != "x/data/1"]), "lacks"),
        "short storage": (Archive(changed("data/1", data=b"1234")), "has 4 bytes"),
        "long storage": (Archive(changed("data/1", data=b"123456")), "has 6 bytes"),
        "storage marked as a folder": (
            Archive(changed("data/0", central={"external": 0x10})),
            "folder with content",
        ),
        "storage named like a folder": (
            Archive([*members(), Member("x/data/2/", FIRST)]),
            "folder with content",
        ),
        "name not UTF-8": (Archive([*members(), Member(b"x/\xff", b"")]), "not UTF-8"),
        "name with an escape": (Archive([*members(), Member("x/\x1b[31m", b"")]), "odd name"),
        "name with many escapes": (
            Archive([*members(), Member("x/" + "\U000e0001" * 400, b"")]),
            "odd name",
        ),
        "name with a zero": (Archive([*members(), Member("x/data/0\0", b"")]), "odd name"),
        "name too long": (Archive([*members(), Member("x/" + "n" * 60000, b"")]), "odd name"),
        "no name": (Archive([*members(), Member("", b"")]), "does not write"),
    }
    for name, (archive, message) in archives.items():
        yield Hostile(f"zip: {name}", archive.build, message)
    yield Hostile("zip: members overlap", overlapping, lie)
    yield Hostile("zip: member within another", inside_another, lie)
    yield Hostile("zip: two names for one place", same_place, lie)
    yield Hostile("zip: archive in the comment", with_comment, "no member|follows it")
    yield Hostile("zip: deflated", lambda: rezipped(zipfile.ZIP_DEFLATED), "packed or encrypted")
    yield Hostile(
        "zip: huge pickle",
        lambda: in_zip(pickled({"a": Code(b"X" + counted(bytes(9 << 20)))})),
        "no checkpoint needs more",
    )


# --- Pickles, hostile ------------------------------------------------------------------------

WRITE = f"open({PAYLOAD!r}, 'w').close()"
TOUCH = ["touch", PAYLOAD]

LIVE: list[tuple[str, str, tuple[object, ...]]] = [
    ("os", "system", (" ".join(TOUCH),)),
    ("posix", "system", (" ".join(TOUCH),)),
    ("os", "popen", (" ".join(TOUCH),)),
    ("builtins", "eval", (WRITE,)),
    ("builtins", "exec", (WRITE,)),
    ("builtins", "open", (PAYLOAD, "w")),
    ("io", "open", (PAYLOAD, "w")),
    ("_io", "FileIO", (PAYLOAD, "w")),
    ("subprocess", "run", (TOUCH,)),
    ("subprocess", "check_output", (TOUCH,)),
    ("subprocess", "getoutput", (" ".join(TOUCH),)),
    ("runpy", "_run_code", (WRITE, {})),
    ("timeit", "timeit", (WRITE, "pass", named("time", "time"), 1)),
    ("cProfile", "run", (WRITE,)),
    (
        "pathlib",
        "Path.touch",
        (Code(named("pathlib", "PosixPath").code + encoded((PAYLOAD,)) + b"R"),),
    ),
    ("numpy.f2py.crackfortran", "myeval", (f"[{WRITE}, 1][1]",)),
]
"""Calls that leave ``PAYLOAD`` behind in a reader that obeys."""

DANGEROUS: list[tuple[str, str, tuple[object, ...]]] = [
    *LIVE,
    ("nt", "system", ("rem",)),
    ("__builtin__", "eval", (WRITE,)),
    ("pdb", "run", (WRITE,)),
    ("subprocess", "Popen", (TOUCH,)),
    ("builtins", "getattr", (named("os", "path"), "exists")),
    ("builtins", "__import__", ("os",)),
    ("builtins", "compile", (WRITE, "x", "exec")),
    ("builtins", "globals", ()),
    ("importlib", "import_module", ("os",)),
    ("functools", "partial", (named("os", "system"), " ".join(TOUCH))),
    ("functools", "reduce", (named("os", "system"), TOUCH)),
    ("operator", "attrgetter", ("system",)),
    ("operator", "methodcaller", ("system", " ".join(TOUCH))),
    ("torch.hub", "load", ("a/b", "c")),
    ("torch", "load", (PAYLOAD,)),
    ("torch.jit", "load", (PAYLOAD,)),
    ("torch.storage", "_load_from_bytes", (b"".decode(),)),
    ("torch._utils", "_rebuild_device_tensor_from_numpy", ()),
    ("torch._dynamo.guards", "eval", (WRITE,)),
    ("torch.utils._config_module", "ConfigModule.load_config", (PAYLOAD,)),
    ("torch.serialization", "os.system", (" ".join(TOUCH),)),
    ("torch", "_utils.os.system", (" ".join(TOUCH),)),
    ("collections", "OrderedDict.__init__.__globals__", ()),
    ("collections", "namedtuple", ("A", "b")),
    ("pip", "main", (["install", "x"],)),
    ("webbrowser", "open", ("about:blank",)),
    ("shutil", "rmtree", (PAYLOAD,)),
    ("pickle", "loads", ("",)),
    ("marshal", "loads", ("",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("pty", "spawn", ("true",)),
    ("code", "interact", ()),
    ("asyncio", "run", (None,)),
    ("types", "FunctionType", ()),
    ("sys", "exit", ()),
    ("numpy", "load", (PAYLOAD,)),
    ("numpy.testing._private.utils", "runstring", (WRITE, {})),
    ("idlelib.pyshell", "ModifiedInterpreter.runcode", (WRITE,)),
    ("__main__", "anything", ()),
    ("torch", "FloatStorage ", ()),
    ("torch ", "FloatStorage", ()),
    ("TORCH", "FloatStorage", ()),
    ("", "", ()),
    ("о" + "s", "system", (" ".join(TOUCH),)),
    ("os\x1b[31m", "system", ()),
    ("\U000e0001" * 45, "\U000e0001" * 45, ()),
]


def payload(named_as: Callable[[str, str], Code], module: str, name: str, *args: object) -> Code:
    return call(named_as(module, name), *args)


EVIL = pickled({"z": payload(named, "os", "system", " ".join(TOUCH)), **BODY})


def global_cases() -> Iterator[Hostile]:
    forms = {"GLOBAL": named, "STACK_GLOBAL": named_by_stack}
    for form, named_as in forms.items():
        for number, (module, name, arguments) in enumerate(DANGEROUS):
            label = ascii(f"{module}.{name}")[1:-1][:60]
            called = payload(named_as, module, name, *arguments)
            built = Code(called.code + encoded({"x": 1}) + b"b")
            only_named = named_as(module, name)
            for where, data in {
                "called": pickled({"z": called, **BODY}),
                "root": pickled(called),
                "NEWOBJ": pickled({**BODY, "z": Code(called.code[:-1] + b"\x81")}),
                "built": pickled({**BODY, "z": built}),
                "only named": pickled({**BODY, "z": only_named}),
                "as a key": pickled(Code(b"}" + only_named.code + b"Ns")),
                "before a fault": pickled({"z": called})[:-1] + b"\xff",
            }.items():
                # Every place with the first of them, the others called alone.
                if number == 0 or where == "called":
                    yield Hostile(
                        f"global {number}: {label}, {form}, {where}",
                        lambda data=data: in_zip(data),  # type: ignore[misc]
                        "asks for",
                    )
    many = [named("m" * 190, "n" * 150 + str(i)) for i in range(9)]
    yield Hostile("globals of long names", lambda: in_zip(pickled(many)), "asks for")
    endless = pickled([named("m" * 300, "n")])
    yield Hostile("global of endless name", lambda: in_zip(endless), "a name has no end")
    endless_stack = pickled([named_by_stack("m" * 300, "n")])
    yield Hostile("global of endless name by stack", lambda: in_zip(endless_stack), "more than 200")
    not_text = pickled([Code(b"K\x01K\x02\x93")])
    yield Hostile("global whose name is no text", lambda: in_zip(not_text), "no text")
    in_legacy = legacy(data=EVIL)
    yield Hostile("global in a legacy file", lambda: in_legacy, "asks for")
    for place in ("magic", "protocol", "system", "keys"):
        evil = pickled(payload(named, "os", "system", " ".join(TOUCH)))
        content = legacy(**{place: evil})
        message = "neither|not one that torch" if place == "magic" else "asks for"
        yield Hostile(f"global as legacy {place}", lambda c=content: c, message)  # type: ignore[misc]


def doubled(times: int) -> bytes:
    """A tuple of two of the same, of two of the same, and so on."""
    return b")" + b"q\0h\0\x86" * times


def integer_keys(count: int) -> bytes:
    """A dict whose keys all have the hash 0."""
    modulus = 2**61 - 1
    pairs = (b"\x8a\x0b" + (n * modulus).to_bytes(11, "little") + b"Ns" for n in range(1, count))
    return b"}" + b"".join(pairs)


def copied_dicts(pairs: int, copies: int) -> bytes:
    """A list of pairs, and many dicts made of it."""
    listed = b"](" + b"".join(b"](M" + struct.pack("<H", n) + b"Ne" for n in range(pairs)) + b"e"
    made = ORDERED_DICT.code + b"q\1" + listed + b"\x85q\2" + b"]"
    return b"](" + made + b"h\1h\2Ra" * copies + b"e"


MANY = 100_000


def many_tensors(count: int) -> bytes:
    """As many tensors of eight dimensions as fit into the number of instructions."""
    ones = encoded((1,) * 8)
    arguments = b"(" + storage().code + b"K\0" + ones + ones + b"tq\1"
    tensors = (b"\x8c\x06" + f"{n:06d}".encode() + b"h\0h\1Rs" for n in range(count))
    remembered = (
        encoded("function") + REBUILD.code + b"q\0s" + encoded("arguments") + arguments + b"s"
    )
    return b"}" + remembered + b"".join(tensors)


def pickle_cases() -> Iterator[Hostile]:
    good = pickled(BODY)
    tensor_key: dict[object, object] = {view(): 1}
    tuple_key: dict[object, object] = {(1, 2): 1}
    cyclic = Code(b"}q\0" + encoded("state_dict") + b"h\0s")
    nested: object = BODY
    for _ in range(10):
        nested = {"state_dict": nested}
    three = (3,)
    cases: dict[str, tuple[bytes, str]] = {
        "byte after STOP": (good + b"x", "follows its pickle"),
        "pickle after STOP": (good + EVIL, "follows its pickle"),
        "good pickle after STOP": (good + good, "follows its pickle"),
        "no STOP": (good[:-1], "ends early"),
        "nothing": (b"", "ends early"),
        "STOP alone": (b".", "ends amid its work"),
        "two objects at STOP": (b"\x80\x02NN.", "ends amid its work"),
        "open mark at STOP": (b"\x80\x02}(.", "ends amid its work"),
        "tuple as key": (pickled(tuple_key), "tuple as the key"),
        "deep tuple as key": (
            pickled(Code(b"}N" + b"\x85" * 100_000 + b"Ns")),
            "nested too deep",
        ),
        "tuple as deep as allowed as key": (
            pickled(Code(b"}N" + b"\x85" * 60 + b"Ns")),
            "tuple as the key",
        ),
        "doubling tuple as key": (pickled(Code(b"}" + doubled(60) + b"Ns")), "tuple as the key"),
        "doubling tuple as a pair's key": (
            pickled(call(ORDERED_DICT, [[Code(doubled(60)), 1]])),
            "tuple as the key",
        ),
        "dict as key": (pickled(Code(b"}}Ns")), "dict as the key"),
        "list as key": (pickled(Code(b"}]Ns")), "list as the key"),
        "bytes as key": (pickled(Code(b"}C\1xNs")), "bytes as the key"),
        "tensor as key": (pickled(tensor_key), "Record as the key"),
        "storage as key": (pickled({storage(): 1}), "Record as the key"),
        "key twice": (
            pickled(Code(encoded(BODY) + encoded("a") + encoded(view()) + b"s")),
            "sets a twice",
        ),
        "key twice among pairs": (
            pickled(call(ORDERED_DICT, [["a", view()], ["a", view()]])),
            "sets a twice",
        ),
        "one and True as keys": (pickled(Code(b"}K\1Ns\x88Ns")), "twice"),
        "long key of escapes twice": (
            pickled(Code(b"}" + (encoded("\U000e0001" * 300) + b"Ns") * 2)),
            "twice",
        ),
        "keys that collide": (pickled(Code(integer_keys(300_000))), "key of a dict"),
        "many copies of a dict": (pickled(Code(copied_dicts(2000, 200_000))), "dicts of pairs"),
        "BUILD on a tensor": (
            pickled({"a": Code(view().code + encoded((None, {"offset": 9})) + b"b")}),
            "made already",
        ),
        "BUILD on a storage": (
            pickled({"a": view(of=Code(storage().code + encoded({"numel": 9}) + b"b"))}),
            "made already",
        ),
        "BUILD on a name": (pickled(Code(REBUILD.code + encoded({"x": 1}) + b"b")), "made already"),
        "BUILD on nothing": (pickled(Code(b"Nb")), "malformed"),
        "append to a dict": (pickled(Code(b"}Na")), "appends to what is no list"),
        "set an item of a list": (pickled(Code(b"]NNs")), "no dict"),
        "set an item of a tensor": (pickled(Code(view().code + b"NNs")), "no dict"),
        "key without a value": (pickled(Code(b"}(Nu")), "has no value"),
        "negative size": (pickled({"a": view((-1,))}), "no count"),
        "huge size": (pickled({"a": view((2**62,))}), "outside of its storage"),
        "size of 2^63": (pickled({"a": view((2**63,))}), "no count"),
        "sizes whose product wraps": (
            pickled({"a": view((2**32, 2**32), (1, 1))}),
            "too large",
        ),
        "float size": (pickled({"a": view((3.0,))}), "no count"),
        "bool size": (pickled({"a": view((True,))}), "no count"),
        "text size": (pickled({"a": view(("3",))}), "no count"),
        "negative stride": (pickled({"a": view(three, (-1,), 2)}), "no count"),
        "huge stride": (pickled({"a": view((2,), (2**62,))}), "outside of its storage"),
        "bool stride": (pickled({"a": view(three, (True,))}), "no count"),
        "float stride": (pickled({"a": view(three, (1.0,))}), "no count"),
        "negative offset": (pickled({"a": view((1,), (1,), -1)}), "no count"),
        "huge offset": (pickled({"a": view((1,), (1,), 2**62)}), "outside of its storage"),
        "float offset": (pickled({"a": view((1,), (1,), 0.0)}), "no count"),
        "bool offset": (pickled({"a": view((1,), (1,), True)}), "no count"),
        "offset behind the last": (pickled({"a": view((1,), (1,), 3)}), "outside of its storage"),
        "empty view behind the end": (pickled({"a": view((0,), (1,), 4)}), "outside of its st"),
        "stride 0 to terabytes": (pickled({"a": view((2**40,), (0,))}), "outside of its storage"),
        "stride 0 to four": (pickled({"a": view((2, 2), (0, 1))}), "outside of its storage"),
        "empty and too large": (
            pickled({"a": view((0, 2**62, 2**62), (1, 1, 1))}),
            "too large",
        ),
        "nine dimensions": (pickled({"a": view((1,) * 9, (1,) * 9)}), "9 dimensions"),
        "strides for another shape": (pickled({"a": view(three, (1, 1))}), "do not match"),
        "shape in a list": (pickled({"a": view([3])}), "no tuple"),
        "shape is None": (pickled({"a": view(None)}), "no tuple"),
        "view of a view": (pickled({"a": view(of=view())}), "no storage"),
        "view of None": (pickled({"a": call(REBUILD, None, 0, three, (1,))}), "no storage"),
        "view of nothing": (pickled({"a": call(REBUILD)}), "no storage"),
        "unknown type": (
            pickled(
                call(
                    named("torch._utils", "_rebuild_tensor_v3"),
                    *(storage(), 0, three, (1,), False, None, named("torch", "float32")),
                )
            ),
            "type that no checkpoint has",
        ),
        "storage of wrong numel": (pickled({"a": view(of=storage(numel=4))}), "its pickle says 16"),
        "storage of wrong kind": (
            pickled({"a": view(of=storage("HalfStorage"))}),
            "its pickle says 6",
        ),
        "storage of negative numel": (pickled({"a": view(of=storage(numel=-3))}), "does not write"),
        "storage of float numel": (pickled({"a": view(of=storage(numel=3.0))}), "does not write"),
        "storage of bool numel": (
            pickled({"a": view((1,), of=storage(numel=True))}),
            "does not write",
        ),
        "storage of huge numel": (pickled({"a": view(of=storage(numel=2**120))}), "does not write"),
        "storage of unknown kind": (pickled({"a": view(of=storage("Generator"))}), "asks for"),
        "storage that is a tensor": (pickled({"a": view(of=storage("Tensor"))}), "does not write"),
        "storage whose kind is no storage": (
            pickled({"a": view(of=Code(encoded(("storage", REBUILD, "0", "cpu", 3)) + b"Q"))}),
            "does not write",
        ),
        "storage of number key": (pickled({"a": view(of=storage(key=0))}), "does not write"),
        "storage that is not there": (pickled({"a": view(of=storage(key="7"))}), "lacks the st"),
        "storage elsewhere": (pickled({"a": view(of=storage(key="../x"))}), "lacks the storage"),
        "storage of long key": (pickled({"a": view(of=storage(key="k" * 5000))}), "lacks the st"),
        "storage of odd key": (pickled({"a": view(of=storage(key="\x1b" * 300))}), "lacks the st"),
        "storage is the pickle": (
            pickled({"a": view(of=storage(key="../data.pkl"))}),
            "lacks the storage",
        ),
        "reference to a text": (pickled({"a": Code(encoded("storage") + b"Q")}), "does not write"),
        "reference to a module": (
            pickled({"a": Code(encoded(("module", REBUILD, "x", "y")) + b"Q")}),
            "does not write",
        ),
        "reference with a view": (
            pickled(
                {
                    "a": Code(
                        encoded(("storage", named("torch", "FloatStorage"), "0", "cpu", 3, (1, 2)))
                        + b"Q"
                    )
                }
            ),
            "does not write",
        ),
        "one key in two ways": (
            pickled({"a": view(), "b": view((1,), of=storage("HalfStorage", "0", 6))}),
            "in two ways",
        ),
        "one long key in two ways": (
            pickled(
                [storage(key="k" * 9000), storage("HalfStorage", key="k" * 9000)],
            ),
            "in two ways",
        ),
        "state_dict that holds itself": (pickled(cyclic), "too often"),
        "state_dict ten deep": (pickled(nested), "too often"),
        "list": (pickled([BODY]), "holds a list"),
        "list as state_dict": (pickled(list(BODY.values())), "holds a list"),
        "number": (pickled(5), "holds a int"),
        "None": (pickled(None), "holds a NoneType"),
        "tensor alone": (pickled(view()), "holds a TensorRecord"),
        "module object": (
            pickled(call(named("argparse", "Namespace"))),
            "holds a Opaque",
        ),
        "memo bomb": (
            pickled(Code(b"N" + b"".join(b"r" + struct.pack("<I", n) for n in range(1_000_002)))),
            "remembers more than",
        ),
        "instruction bomb": (pickled(Code(b"\x95" + bytes(8) + b"N" + b"q\0" * 2_000_002)), "than"),
        "stack bomb": (pickled(Code(b"N" * 200_000)), "stacks more than"),
        "list bomb": (pickled(Code(b"]" + b"}a" * 1_100_000)), "more than"),
        "tuple bomb": (pickled(Code(b"]" + b"N\x85a" * 700_000)), "more than"),
        "name bomb": (
            pickled(Code(b"]" + b"".join(b"c\n%x\na" % n for n in range(400_000)))),
            "asks for",
        ),
        "LONG4": (pickled(Code(b"\x8b" + struct.pack("<i", 4) + bytes(4))), "0x8b"),
        "huge LONG4": (pickled(Code(b"\x8b" + struct.pack("<i", 2**31 - 1))), "0x8b"),
        "negative LONG4": (pickled(Code(b"\x8b" + struct.pack("<i", -1))), "0x8b"),
        "huge LONG1": (pickled(Code(b"\x8a\xff" + bytes(255))), "an integer of 255 bytes"),
        "huge BINUNICODE": (pickled(Code(b"X" + struct.pack("<I", 2**32 - 1))), "ends early"),
        "huge BINBYTES": (pickled(Code(b"B" + struct.pack("<I", 2**32 - 1))), "ends early"),
        "huge BINSTRING": (pickled(Code(b"T" + struct.pack("<I", 2**31 - 1))), "ends early"),
        "marks nested deep": (pickled(Code(b"(" * 90_000)), "nested too deep"),
        "long tuples nested deep": (
            pickled(Code(b"N" + b"q\0(h\0t" * 90)),
            "nested too deep",
        ),
        "tuples nested deep": (pickled(Code(b"N" + b"\x85" * 1_000_000)), "nested too deep"),
        "tuples nested deep by lists": (
            pickled(Code(b"]" + b"\x85" * 60 + b"]" + b"\x85" * 900_000)),
            "nested too deep",
        ),
        "lists nested deep": (pickled(Code(b"]" * 99_000 + b"a" * 98_999)), "holds a list"),
        "lists nested deeper, by memo": (
            pickled(Code(b"]q\0]" + b"q\1h\0a" * 1 + b"q\0]h\1a" * 400_000)),
            "ends amid|more than",
        ),
        "pop from under a mark": (pickled(Code(b"N(\x85t")), "not there"),
        "pop from nothing": (pickled(Code(b"\x86")), "not there"),
        "tuple without a mark": (pickled(Code(b"t")), "not there"),
        "recall of nothing": (pickled(Code(b"h\7")), "recalls"),
        "call of a text": (pickled(Code(encoded("x") + b")R")), "no function"),
        "call with a list": (pickled(Code(ORDERED_DICT.code + b"]R")), "no function"),
        "call of what was built": (pickled(Code(view().code + b")R")), "no function"),
        "dict of no pairs": (pickled(call(ORDERED_DICT, [5])), "no list of pairs"),
        "dict of a text": (pickled(call(ORDERED_DICT, "ab")), "no list of pairs"),
        "protocol 0": (b"(dp0\nVa\np1\nI1\ns.", "instruction that torch does not write"),
        "protocol 1": (b"\x80\x01}.", "version 1"),
        "protocol 6": (pickled(BODY, 6), "version 6"),
        "protocol 255": (pickled(BODY, 255), "version 255"),
        "protocol changed on the way": (pickled({"a": Code(b"\x80\x06N")}), "version 6"),
        "add to no set": (pickled(Code(b"](K\1\x90")), "no set"),
        "add to nothing": (pickled(Code(b"(\x90")), "not there"),
        "huge BYTEARRAY8": (pickled(Code(b"\x96" + b"\xff" * 8)), "ends early"),
        "tensor marked as negated": (pickled({"a": marked({"neg": True})}), "resolve_neg"),
        "tensor marked as conjugated": (pickled({"a": marked({"conj": True})}), "resolve_conj"),
        "tensor with attributes of an unknown kind": (
            pickled({"a": with_attributes(named("os", "system"))}),
            "asks for",
        ),
        "text not UTF-8": (pickled(Code(b"}X\1\0\0\0\xffNs")), "not UTF-8"),
        "surrogate": (pickled({"\ud800": view()}), "not UTF-8"),
        "name not UTF-8": (pickled(Code(b"c\xff\n\xfe\n")), "not UTF-8"),
        "control characters in a name": (pickled({"a\x1b[31m": view()}), "odd name"),
        "line break in a name": (pickled({"a\nb": view()}), "odd name"),
        "zero in a name": (pickled({"a\0b": view()}), "odd name"),
        "right-to-left in a name": (pickled({"a\u202eb": view()}), "odd name"),
        "long name": (pickled({"a" * 301: view()}), "odd name"),
        "very long name": (pickled({"a" * 1_000_000: view()}), "odd name"),
        "long name of escapes": (pickled({"\U000e0001" * 300: view()}), "odd name"),
        "named attributes": (pickled({"__class__": Code(b"\x92")}), "0x92"),
    }
    opcodes = {
        "INST": b"(ios\nsystem\n",
        "OBJ": b"(" + named("os", "getcwd").code + b"o",
        "EXT1": b"\x82\1",
        "EXT2": b"\x83\1\0",
        "EXT4": b"\x84\1\0\0\0",
        "PERSID": b"P0\n",
        "NEWOBJ_EX": ORDERED_DICT.code + b")}\x92",
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": b"\x97\x98",
        "BINUNICODE8": b"\x8d" + b"\xff" * 8,
        "BINBYTES8": b"\x8e" + b"\xff" * 8,
        "POP": b"NN0",
        "POP_MARK": b"N(1",
        "DUP": b"N2\x86",
        "INT": b"I5\n",
        "LONG": b"L" + b"9" * 100_000 + b"L\n",
        "FLOAT": b"F1.5\n",
        "STRING": b"S'a'\n",
        "UNICODE": b"Va\n",
        "GET": b"Np0\ng0\n",
        "LIST": b"(l",
        "DICT": b"(d",
    }
    for name, code in opcodes.items():
        cases[f"instruction {name}"] = pickled({"z": Code(code)}), "asks for|does not write"
    for name, (data, message) in cases.items():
        yield Hostile(f"pickle: {name}", lambda data=data: in_zip(data), message)  # type: ignore[misc]


# --- Legacy ----------------------------------------------------------------------------------

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


LEGACY_BODY = {
    "a": view(of=storage(more=(None,))),
    "b": view((5,), of=storage("ByteStorage", "1", 5, (None,))),
}


def legacy(
    magic: bytes = pickled(MAGIC_NUMBER),
    protocol: bytes = pickled(1001),
    system: bytes = pickled(SYSTEM),
    data: bytes = pickled(LEGACY_BODY),
    keys: bytes = pickled(["0", "1"]),
    storages: bytes = struct.pack("<q", 3) + STORAGES["0"] + struct.pack("<q", 5) + STORAGES["1"],
) -> bytes:
    return magic + protocol + system + data + keys + storages


def legacy_cases() -> Iterator[Hostile]:
    def counts(first: int, second: int) -> bytes:
        return b"".join(
            struct.pack("<q", count) + STORAGES[key]
            for key, count in zip("01", (first, second), strict=True)
        )

    mismatch = "does not match its tensors"
    cases: dict[str, tuple[bytes, str]] = {
        "magic": (legacy(magic=pickled(MAGIC_NUMBER + 1)), "not one that torch"),
        "magic alone": (legacy()[:15], "ends early"),
        "protocol": (legacy(protocol=pickled(1000)), "header is broken"),
        "protocol is a text": (legacy(protocol=pickled("1001")), "header is broken"),
        "system is a list": (legacy(system=pickled([1])), "header is broken"),
        "big-endian": (legacy(system=pickled({"little_endian": False})), "big-endian"),
        "endianness missing": (legacy(system=pickled({})), "big-endian"),
        "endianness is one": (legacy(system=pickled({"little_endian": 1})), "big-endian"),
        "key missing": (legacy(keys=pickled(["0"])), mismatch),
        "keys missing": (legacy(keys=pickled([])), mismatch),
        "strange key": (legacy(keys=pickled(["0", "1", "2"])), mismatch),
        "key exchanged": (legacy(keys=pickled(["0", "2"])), mismatch),
        "key twice": (legacy(keys=pickled(["0", "1", "1"])), mismatch),
        "key twice, one missing": (legacy(keys=pickled(["0", "0"])), mismatch),
        "keys no list": (legacy(keys=pickled(("0", "1"))), "no list of names"),
        "keys a dict": (legacy(keys=pickled({"0": 1, "1": 1})), "no list of names"),
        "keys numbers": (legacy(keys=pickled([0, 1])), "no list of names"),
        "keys in other order": (legacy(keys=pickled(["1", "0"])), "does not have the 5 values"),
        "wrong count": (legacy(storages=counts(4, 5)), "does not have the 3 values"),
        "count zero": (legacy(storages=counts(0, 5)), "does not have the 3 values"),
        "negative count": (legacy(storages=counts(-3, 5)), "does not have the 3 values"),
        "wrong last count": (legacy(storages=counts(3, 2**62)), "does not have the 5 values"),
        "huge numel": (
            legacy(data=pickled({"a": view(of=storage(numel=2**63)), "b": SECOND})),
            "does not write",
        ),
        "large numel": (
            legacy(
                data=pickled({"a": view(of=storage(numel=2**62)), "b": SECOND}),
                storages=counts(2**62, 5),
            ),
            "cut short",
        ),
        "byte after": (legacy() + b"x", "something follows"),
        "pickle after": (legacy() + EVIL, "something follows"),
        "byte between": (legacy(keys=pickled(["0", "1"]) + b"x"), "does not have the 3 values"),
        "pickle between": (legacy(system=pickled(SYSTEM) + pickled(BODY)), "no list of names"),
        "no storages": (legacy(storages=b""), "cut short"),
        "data is a list": (legacy(data=pickled(list(BODY.values()))), "holds a list"),
        "view outside": (legacy(data=pickled({**BODY, "a": view((4,))})), "outside of its storage"),
        "keys deep": (legacy(keys=pickled(Code(b"]" * 90_000 + b"a" * 89_999))), "no list of"),
        "protocol deep": (legacy(protocol=pickled(Code(b"]" * 90_000 + b"a" * 89_999))), "broken"),
    }
    for name, (content, message) in cases.items():
        yield Hostile(f"legacy: {name}", lambda content=content: content, message)  # type: ignore[misc]


# --- safetensors -----------------------------------------------------------------------------


def safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(start: object, end: object, dtype: object = "F32", shape: object = (1,)) -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def safetensors_cases() -> Iterator[Hostile]:
    one, two = entry(0, 4), entry(4, 8)
    text = json.dumps(one).encode()
    four = bytes(4)
    wrong, gap, broken = "wrongly", "no tensor or to two", "header is broken"
    cases: dict[str, tuple[bytes, str]] = {
        "name twice": (safetensors(b'{"a":%s,"a":%s}' % (text, text), four), "twice"),
        "name twice, other dtype": (
            safetensors(b'{"a":%s,"a":%s}' % (text, text.replace(b"F32", b"I32")), four),
            "twice",
        ),
        "name twice by escape": (
            safetensors(rb'{"a":%s,"\u0061":%s}' % (text, text), four),
            "twice",
        ),
        "field twice": (
            safetensors(b'{"a":%s}' % text.replace(b"{", b'{"dtype":"I32",'), four),
            "twice",
        ),
        "metadata twice": (
            safetensors(b'{"__metadata__":{},"__metadata__":{"x":"y"},"a":%s}' % text, four),
            "twice",
        ),
        "metadata name twice": (safetensors(b'{"__metadata__":{"x":"y","x":"z"}}'), "twice"),
        "metadata number": (safetensors({"__metadata__": {"x": 1}}), "not text"),
        "metadata nested": (safetensors({"__metadata__": {"x": {}}}), "not text"),
        "metadata list": (safetensors({"__metadata__": []}), "not text"),
        "metadata false": (safetensors({"__metadata__": False}), "not text"),
        "metadata null twice": (safetensors(b'{"__metadata__":null,"__metadata__":null}'), "twice"),
        "hole": (safetensors({"a": one, "b": entry(8, 12)}, bytes(12)), gap),
        "hole before": (safetensors({"a": two}, bytes(8)), gap),
        "overlap": (safetensors({"a": one, "b": entry(2, 6)}, bytes(6)), gap),
        "same bytes": (safetensors({"a": one, "b": one}, four), gap),
        "hole, out of order": (safetensors({"b": entry(8, 12), "a": one}, bytes(12)), gap),
        "overlap, out of order": (safetensors({"b": entry(2, 6), "a": one}, bytes(6)), gap),
        "empty tensor inside of another": (
            safetensors({"a": one, "b": entry(2, 2, shape=[0])}, four),
            gap,
        ),
        "empty tensor behind the end": (
            safetensors({"a": one, "b": entry(8, 8, shape=[0])}, four),
            gap,
        ),
        "end before start": (safetensors({"a": entry(4, 0)}, four), wrong),
        "past the end": (safetensors({"a": entry(0, 400, shape=[100])}, four), "end at byte"),
        "header length past the end": (safetensors({"a": one}, four, size=2**20), "cut short"),
        "header length of 2^64": (safetensors({"a": one}, four, size=2**64 - 1), "cut short"),
        "header length short": (safetensors({"a": one}, four, size=20), broken),
        "header length long": (safetensors({"a": one}, four, size=len(text) + 8), broken),
        "header of much structure": (
            safetensors(b'{"a":[' + b"[]," * 2_800_000 + b"[]]}"),
            "more than a checkpoint",
        ),
        "structure behind escapes": (
            safetensors(rb'{"\\\"\"\\":[' + b"[]," * 2_800_000 + b"[]]}"),
            "more than a checkpoint",
        ),
        "nested deep": (safetensors(b"{" + b'"a":{' * 100_000 + b"}" * 100_001), "too deep"),
        "nested deep lists": (
            safetensors(b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
            "too deep",
        ),
        "empty dicts": (safetensors(b'{"a":[' + b"{}," * 2_700_000 + b"{}]}"), wrong),
        "empty texts": (safetensors(b'{"a":[' + b'"\xc3\xa9",' * 900_000 + b"1]}"), wrong),
        "more empty texts": (
            safetensors(b'{"a":[' + b'"",' * 1_100_000 + b"1]}"),
            "more than a checkpoint",
        ),
        "open text": (safetensors(b'{"a":"' + b"[" * 9_000_000), broken),
        "NaN": (safetensors(b'{"a":%s}' % text.replace(b"[1]", b"[NaN]"), four), wrong),
        "Infinity": (safetensors(b'{"a":%s}' % text.replace(b"[1]", b"[Infinity]"), four), wrong),
        "huge number": (
            safetensors(b'{"a":%s}' % text.replace(b"[1]", b"[%s]" % (b"9" * 100_000)), four),
            broken,
        ),
        "float size": (safetensors({"a": entry(0, 4, shape=[1.0])}, four), wrong),
        "float size by exponent": (
            safetensors(b'{"a":%s}' % text.replace(b"[1]", b"[1e0]"), four),
            wrong,
        ),
        "bool size": (safetensors({"a": entry(0, 4, shape=[True])}, four), wrong),
        "null size": (safetensors({"a": entry(0, 4, shape=[None])}, four), wrong),
        "negative sizes": (safetensors({"a": entry(0, 4, shape=[-1, -1])}, four), wrong),
        "negative offset": (safetensors({"a": entry(-4, 0)}, four), wrong),
        "float offset": (safetensors({"a": entry(0, 4.0)}, four), wrong),
        "bool offset": (safetensors({"a": entry(False, 4)}, four), wrong),
        "three offsets": (
            safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}, four),
            wrong,
        ),
        "no offsets": (safetensors({"a": {"dtype": "F32", "shape": [1]}}, four), wrong),
        "nine dimensions": (safetensors({"a": entry(0, 4, shape=[1] * 9)}, four), wrong),
        "product wraps": (safetensors({"a": entry(0, 0, shape=[2**32, 2**32])}), "too large"),
        "product wraps to four": (
            safetensors({"a": entry(0, 4, shape=[2**62, 4, 1])}, four),
            "too large",
        ),
        "empty and too large": (
            safetensors({"a": entry(0, 0, shape=[0, 2**62, 2**62])}),
            "too large",
        ),
        "size too small": (safetensors({"a": entry(0, 4, "F64")}, four), wrong),
        "unknown dtype": (safetensors({"a": entry(0, 4, "F33")}, four), wrong),
        "dtype in small letters": (safetensors({"a": entry(0, 4, "f32")}, four), wrong),
        "dtype null": (safetensors({"a": entry(0, 4, None)}, four), wrong),
        "entry is a list": (safetensors({"a": [1]}, four), wrong),
        "entry is a long text": (safetensors({"a": "\x1b" * 5000}, four), wrong),
        "after the JSON": (safetensors(json.dumps({"a": one}).encode() + b" {}", four), broken),
        "zero after the JSON": (safetensors(json.dumps({"a": one}).encode() + b"\0", four), broken),
        "byte order mark": (safetensors(b"\xef\xbb\xbf" + b'{"a":%s}' % text, four), "neither"),
        "space first": (safetensors(b" " + b'{"a":%s}' % text, four), "neither"),
        "list": (safetensors(b"[]"), "neither"),
        "header not UTF-8": (safetensors(b'{"\xff":%s}' % text, four), broken),
        "UTF-16": (safetensors(json.dumps({"a": one}).encode("utf-16-le"), four), broken),
        "surrogate as a name": (safetensors(rb'{"\ud800":%s}' % text, four), broken),
        "surrogate in metadata": (safetensors(rb'{"__metadata__":{"a":"\udfff"}}'), broken),
        "control character, raw": (safetensors(b'{"a\x1b":%s}' % text, four), broken),
        "control character, escaped": (safetensors(rb'{"a\u001b[31m":%s}' % text, four), "odd"),
        "line break in a name": (safetensors({"a\nb": one}, four), "odd name"),
        "right-to-left in a name": (safetensors({"a\u202eb": one}, four), "odd name"),
        "long name": (safetensors({"a" * 301: one}, four), "odd name"),
        "long name of escapes": (safetensors({"\U000e0001" * 300: one}, four), "odd name"),
        "wrong entry of long name": (safetensors({"é" * 300: "\x1b" * 5000}, four), wrong),
        "byte after": (safetensors({"a": one}, bytes(5)), "end at byte"),
        "zip after": (safetensors({"a": one}, four + Archive(members()).build()), "end at byte"),
        "byte missing": (safetensors({"a": one}, bytes(3)), "end at byte"),
    }
    for name, (content, message) in cases.items():
        yield Hostile(f"safetensors: {name}", lambda content=content: content, message)  # type: ignore[misc]


# --- Good files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Good:
    """A file to read, and what is in it."""

    name: str
    build: Builder
    values: State


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def saved_without_crc() -> bytes:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        return saved(MIXED)
    finally:
        torch.serialization.set_crc32_options(before)


def _mixed() -> State:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
    return {
        "float": base,
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "transposed": base.T,
        "tail": base[1:],
        "every second": base[:, ::2],
        "scalar": torch.tensor(0.5, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "long": torch.arange(4),
        "bool": torch.tensor([True, False]),
        "short": torch.arange(2, dtype=torch.int16),
    }


MIXED = _mixed()
TRAINING = [{1, 2}, set(), frozenset({"a"}), bytearray(b"abc"), bytearray(), np.ones(3), b"x" * 300]
PACKED = {name: value.contiguous().clone() for name, value in MIXED.items()}


def parameters() -> State:
    return {n: torch.nn.Parameter(v) for n, v in MIXED.items() if v.is_floating_point()}


def polyglot() -> State:
    return {"a": torch.ones(2), "z": torch.frombuffer(bytearray(saved(VALUES)), dtype=torch.uint8)}


def good_files() -> list[Good]:
    twice = {"state_dict": {"state_dict": MIXED}, "epoch": 3}
    files = [
        Good("zip", lambda: saved(MIXED), MIXED),
        Good("zip without CRC", saved_without_crc, MIXED),
        Good("wrapped twice", lambda: saved(twice), MIXED),
        Good("ordered", lambda: saved(OrderedDict(MIXED)), MIXED),
        Good("parameters", lambda: saved(parameters()), parameters()),
        Good("zip by Python", lambda: rezipped(zipfile.ZIP_STORED), VALUES),
        Good("zip by hand", lambda: Archive(members()).build(), VALUES),
        Good("zip64 by hand", lambda: Archive(members(), end64={}).build(), VALUES),
        Good("folders in a zip", _zip_with_folders, VALUES),
        Good("descriptor by hand", lambda: Archive(described(descriptor(FIRST))).build(), VALUES),
        Good("zip64 member by hand", _zip64_member, VALUES),
        Good("tensor views", lambda: in_zip(pickled(VIEWS)), VIEWED),
        Good("tuple nested as deep as allowed", _deep, VALUES),
        Good("dicts nested deep", _dicts_nested_deep, VALUES),
        Good("many tensors", _many_tensors, {}),
        Good("global by stack", lambda: in_zip(pickled(BY_STACK, 4)), {"a": VALUES["a"]}),
        Good("legacy", lambda: saved(MIXED, _use_new_zipfile_serialization=False), MIXED),
        Good("legacy by hand", legacy, VALUES),
        Good("safetensors", lambda: save(PACKED), PACKED),
        Good("safetensors with metadata", lambda: save(PACKED, {"author": "é"}), PACKED),
        Good(
            "safetensors by hand",
            lambda: safetensors({"a": entry(0, 12, shape=[3])}, FIRST),
            {"a": VALUES["a"]},
        ),
        Good("safetensors out of order", _safetensors_out_of_order, OUT_OF_ORDER),
        Good(
            "safetensors with metadata null",
            lambda: safetensors({"__metadata__": None, "a": entry(0, 12, shape=[3])}, FIRST),
            {"a": VALUES["a"]},
        ),
        Good("safetensors that ends in a zip", lambda: save(polyglot()), polyglot()),
    ]
    for protocol in (4, 5):
        files.append(
            Good(
                f"legacy of protocol {protocol}",
                lambda protocol=protocol: saved(  # type: ignore[misc]
                    MIXED, pickle_protocol=protocol, _use_new_zipfile_serialization=False
                ),
                MIXED,
            )
        )
        files.append(
            Good(
                f"sets, arrays and bytes of protocol {protocol}",
                lambda protocol=protocol: saved(  # type: ignore[misc]
                    {**MIXED, "state": TRAINING}, pickle_protocol=protocol
                ),
                MIXED,
            )
        )
    for protocol in (2, 3, 4, 5):
        files.append(
            Good(
                f"zip of protocol {protocol}",
                lambda protocol=protocol: saved(MIXED, pickle_protocol=protocol),  # type: ignore[misc]
                MIXED,
            )
        )
    return files


VIEWS = {
    "part": view((2,), (1,), 1),
    "reversed shape": view((1, 3), (2**62, 1)),
    "stride 0": view((2,), (0,), 1),
    "empty": view((0,), (1,), 3),
    "scalar": view((), (), 1),
}
VIEWED = {
    "part": torch.tensor([1.0, 2.0]),
    "reversed shape": torch.tensor([[0.0, 1.0, 2.0]]),
    "stride 0": torch.tensor([1.0, 1.0]),
    "empty": torch.empty(0),
    "scalar": torch.tensor(1.0),
}
BY_STACK = {
    "a": call(
        named_by_stack("torch._utils", "_rebuild_tensor_v2"), storage(), 0, (3,), (1,), False, None
    )
}


OUT_OF_ORDER = {
    "empty between": torch.empty(0),
    "last": torch.tensor([3.0]),
    "first": torch.tensor([1.0, 2.0]),
    "empty at the end": torch.empty(2, 0),
    "empty at the start": torch.empty(0, 2),
}


def _safetensors_out_of_order() -> bytes:
    """Names in any order, as MLX and mergers with threads write them; bytes without a gap."""
    header = {
        "empty between": entry(8, 8, shape=[0]),
        "last": entry(8, 12),
        "first": entry(0, 8, shape=[2]),
        "empty at the end": entry(12, 12, shape=[2, 0]),
        "empty at the start": entry(0, 0, shape=[0, 2]),
    }
    return safetensors(header, struct.pack("<3f", 1, 2, 3))


def _zip64_member() -> bytes:
    large: Fields = {"size": 2**32 - 1, "packed": 2**32 - 1}
    extra = zip64(len(FIRST), len(FIRST))
    wide = {"local": large, "central": large, "local_extra": extra, "central_extra": extra}
    return Archive(changed("data/0", **wide)).build()


def _zip_with_folders() -> bytes:
    folders = [Member(name, b"", central={"external": 0x10}) for name in ("x/", "x/data/")]
    return Archive([*folders, *members()]).build()


def _deep() -> bytes:
    return in_zip(pickled({**BODY, "deep": Code(b"N" + b"\x85" * 64)}))


def _dicts_nested_deep() -> bytes:
    return in_zip(pickled({**BODY, "deep": Code(b"}N" * 49_000 + b"}" + b"s" * 49_000)}))


def _many_tensors() -> bytes:
    return in_zip(pickled(Code(many_tensors(MANY))))


# --- All of them -----------------------------------------------------------------------------


def hostile_files() -> list[Hostile]:
    """The whole corpus, but for truncations."""
    return [
        *zip_cases(),
        *pickle_cases(),
        *global_cases(),
        *legacy_cases(),
        *safetensors_cases(),
    ]


def truncations(step: int = 7) -> Iterator[tuple[str, bytes]]:
    """The good files of each container, cut at every ``step``-th byte."""
    for name, content in {
        "zip": Archive(members(), end64={}).build(),
        "torch's zip": saved({"a": torch.ones(3)}),
        "legacy": legacy(),
        "safetensors": save(VALUES),
    }.items():
        for size in range(0, len(content), step):
            yield f"{name} cut to {size} of {len(content)}", content[:size]
