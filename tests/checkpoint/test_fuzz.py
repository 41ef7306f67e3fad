"""Random damage: every file is refused in one clear line or read as its own library reads it.

``python -m tests.fuzz`` goes on for as long as one likes.
"""

import json
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError
from tests import fuzz
from tests.fuzz import FuzzError, Tally, examine, main, mutation, run, scratch_folder, seeds
from tests.hostile import (
    BODY,
    CENTRAL,
    END,
    END64,
    LOCAL,
    LOCATOR,
    ORDERED_DICT,
    REBUILD,
    SECOND,
    Archive,
    Code,
    Member,
    call,
    changed,
    encoded,
    in_zip,
    members,
    named,
    pickled,
    safetensors,
    storage,
    view,
)

pytestmark = pytest.mark.slow

MUTATIONS, CHUNK = 20_000, 1000
SETTINGS = settings(max_examples=300, deadline=None, derandomize=True, database=None)
INTERESTING = [
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    12,
    2**16 - 1,
    2**31 - 1,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


@pytest.fixture(autouse=True)
def kept_with_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that fails is kept in the test's own folder, which stays where a test fails."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder / "x"


@pytest.mark.parametrize("start", range(0, MUTATIONS, CHUNK))
def test_mutated_files_are_refused_or_read_correctly(start: int) -> None:
    tally = run(0, range(start, start + CHUNK))
    assert tally.refused > CHUNK / 2
    assert tally.compared > CHUNK / 50


def test_mutations_are_the_same_each_time() -> None:
    first, again = ([mutation(5, n, seeds_) for n in range(50)] for seeds_ in [seeds()] * 2)
    assert first == again
    assert first != [mutation(6, n, seeds()) for n in range(50)]


def refuse(message: str) -> Callable[[Path], Checkpoint]:
    def opener(path: Path) -> Checkpoint:
        raise CheckpointError(message)

    return opener


def crash(path: Path) -> Checkpoint:
    raise ValueError("a bug")


def hang(path: Path) -> Checkpoint:
    while True:
        pass


def read_another(path: Path) -> Checkpoint:
    path.write_bytes(in_zip(pickled({"a": view((2,)), "b": SECOND})))
    return open_checkpoint(path)


@pytest.mark.parametrize(
    ("opener", "message"),
    [
        (crash, "ValueError: a bug"),
        (hang, "more than 0.1 s"),
        (refuse("it has no name"), "AssertionError"),
        (refuse("x: two\nlines"), "AssertionError"),
        (refuse("x: " + "long" * 300), "AssertionError"),
        (read_another, "AssertionError"),
    ],
)
def test_a_faulty_reader_is_noticed_and_its_file_kept(
    opener: Callable[[Path], Checkpoint],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fuzz, "SECONDS_LIMIT", 0.1)
    content = in_zip(pickled(BODY))
    with pytest.raises(FuzzError, match=message) as failure:
        examine(content, tmp_path / "x", "this one", Tally(), opener)
    assert str(failure.value).startswith("this one: ")
    assert Path(str(failure.value).rpartition(" ")[2]).read_bytes() == content
    examine(content, tmp_path / "x", "control", Tally())


def test_without_atheris_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--mutations", "1", "--atheris"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "pip install atheris" in capsys.readouterr().err


def check_all(files: SearchStrategy[bytes], scratch: Path) -> Tally:
    """Examine what a strategy draws."""
    tally = Tally()

    @SETTINGS
    @given(content=files)
    def check(content: bytes) -> None:
        examine(content, scratch, "a drawn file", tally)

    check()
    return tally


# --- Programs of the pickle machine ----------------------------------------------------------

COUNTS = st.integers(-1, 6) | st.sampled_from(INTERESTING)
NAMES = st.sampled_from(["a", "b", "state_dict", "0", "1", "é", "a\nb", ""])


def views() -> SearchStrategy[Code]:
    """Tensors, of which some fit into their storage."""
    storages = st.builds(
        storage,
        st.sampled_from(["FloatStorage", "ByteStorage", "HalfStorage", "BoolStorage"]),
        st.sampled_from("001"),
        st.sampled_from([3, 3, 5, 6, 12]),
    )
    fitting = st.sampled_from([storage(), storage("ByteStorage", "1", 5)])
    sizes = st.lists(st.integers(0, 3) | COUNTS, max_size=3).map(tuple)
    shapes = st.tuples(sizes, sizes).filter(lambda pair: len(pair[0]) == len(pair[1]))
    return st.builds(
        lambda of, shape, offset: view(shape[0], shape[1], offset, of),
        fitting | storages,
        shapes | st.tuples(sizes, sizes),
        st.integers(0, 2) | COUNTS,
    )


def values() -> SearchStrategy[object]:
    leaves: SearchStrategy[object] = st.one_of(
        views(), st.none(), st.booleans(), COUNTS, st.floats(), NAMES, st.just(call(ORDERED_DICT))
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.dictionaries(NAMES, inner, max_size=3)
            | st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=8,
    )


CONSTANTS: list[object] = ["a", "state_dict", 0, 3, -1, 2**63, 0.5, (), [], {}]
FRAGMENTS = [
    *(bytes([code]) for code in b"()t]}aesubRQN.0\x81\x85\x86\x87\x88\x89\x93\x94"),
    *(b"q\0", b"q\1", b"h\0", b"h\1", b"h\7", b"r\0\0\0\0", b"j\0\0\0\0"),
    *map(encoded, CONSTANTS),
    *(REBUILD.code, ORDERED_DICT.code, storage().code, view().code, SECOND.code),
    named("os", "getcwd").code,
    b"\x80\x02",
    b"\x95" + bytes(8),
]


def test_random_state_dicts(scratch: Path) -> None:
    states = st.dictionaries(NAMES, values(), max_size=4)
    tally = check_all(states.map(lambda state: in_zip(pickled(state))), scratch)
    assert min(tally.refused, tally.read, tally.compared) > 10


def test_random_pickle_programs(scratch: Path) -> None:
    """Instructions in any order, within a dict or bare."""
    programs = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)
    drawn = st.builds(
        lambda program, inside: in_zip(
            b"\x80\x02" + (encoded(BODY) + encoded("z") if inside else b"") + program
            + (b"s." if inside else b".")
        ),
        programs,
        st.booleans(),
    )  # fmt: skip
    tally = check_all(drawn, scratch)
    assert tally.refused > 100
    assert tally.read > 0


# --- Headers of safetensors ------------------------------------------------------------------

DTYPES = {"F32": 4, "U8": 1, "BF16": 2, "I64": 8, "BOOL": 1, "F8_E4M3": 1, "F4": 1, "f32": 4}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header that is right, or has one place that is not."""
    header: dict[str, object] = {}
    position = 0
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        dtype = draw(st.sampled_from(list(DTYPES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        end = position + DTYPES[dtype]
        for size in shape:
            end += (size - 1) * (end - position)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    data = bytes(range(2)) * position
    data = data[: position + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))]
    if draw(st.booleans()):
        texts: SearchStrategy[object] = st.dictionaries(NAMES, NAMES)
        header["__metadata__"] = draw(texts | JSON)
    if draw(st.booleans()) and header:
        entry = header[draw(st.sampled_from(list(header)))]
        if isinstance(entry, dict):
            field = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
            entry[field] = draw(JSON | st.lists(COUNTS, max_size=3))
    text = json.dumps(header, ensure_ascii=draw(st.booleans())).encode()
    text += draw(st.sampled_from([b"", b"", b" ", b"\0", b"}"]))
    return safetensors(text, data)


def test_random_safetensors_headers(scratch: Path) -> None:
    tally = check_all(headers(), scratch)
    assert min(tally.refused, tally.read, tally.compared) > 10


# --- Records of zip --------------------------------------------------------------------------


def fields(layout: tuple[str, str]) -> SearchStrategy[dict[str, int | bytes]]:
    """A field of a record with another number in it, or none."""
    form, names = layout
    codes = re.sub(r"(\d+)([HIQ])", lambda match: match[2] * int(match[1]), form.removeprefix("4s"))
    widths = dict(zip(names.split()[1:], (struct.calcsize(f"<{c}") for c in codes), strict=True))
    one = st.builds(
        lambda name, value: {name: value % 256 ** widths[name]},
        st.sampled_from(list(widths)),
        st.integers(0, 20) | st.sampled_from(INTERESTING),
    )
    nothing: dict[str, int | bytes] = {}
    return st.just(nothing) | one


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A good archive with up to a field of each record changed, or its members in disorder."""
    listed: list[Member] = members()
    if draw(st.booleans()):
        which = draw(st.sampled_from(["data.pkl", "byteorder", "data/0", "data/1", "version"]))
        local = draw(fields(LOCAL))
        central = dict(local) if draw(st.booleans()) else draw(fields(CENTRAL))
        central = {name: value for name, value in central.items() if name in CENTRAL[1].split()}
        after = draw(st.sampled_from([b"", b"", bytes(3)]))
        listed = changed(which, local=local, central=central, after=after)
    if draw(st.booleans()):
        listed = list(draw(st.permutations(listed)))
    if draw(st.integers(0, 5)) == 0:
        listed.append(draw(st.sampled_from(listed)))
    archive = Archive(
        listed,
        before=draw(st.sampled_from([b"", b"", b"", b"PK\3\4"])),
        end=draw(fields(END)),
        end64=draw(st.none() | fields(END64)),
        locator=draw(fields(LOCATOR)),
        after=draw(st.sampled_from([b"", b"", b"", b"\0"])),
    )
    return archive.build()


def test_random_zip_records(scratch: Path) -> None:
    tally = check_all(archives(), scratch)
    assert min(tally.refused, tally.read, tally.compared) > 10
