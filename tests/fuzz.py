"""Mutate small checkpoints: each is refused in one clear line, or read as its own library reads it.

Run as ``python -m tests.fuzz --mutations N [--seed S] [--atheris]``.  The same seed and number give
the same mutation; a failing file is kept, and the message says where.
"""

import argparse
import io
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import safetensors.torch
import torch

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import packed
from erasepro_convert.sd1 import identify
from tests.hostile import Archive, members, require_clear, saved

SECONDS_LIMIT = 10
MEMORY_LIMIT = 500 << 20
FILE_LIMIT = 1 << 16
"""Bytes of a mutated file; insertions stop there."""

Open = Callable[[Path], Checkpoint]


class FuzzError(AssertionError):
    """A file that the reader neither refuses clearly nor reads correctly."""


# --- Seeds and mutations ---------------------------------------------------------------------


def seeds() -> list[bytes]:
    """Small files of every container; one has names of the real model, which ``identify`` reads."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": base.half(),
        "first_stage_model.decoder.conv_in.weight": base,
        "alphas_cumprod": torch.arange(3, dtype=torch.float64),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(7)[None],
        "empty": torch.empty(0, 2),
    }
    strided = {"a": base.T, "b": base[1:], "c": base[:, ::2], "d": torch.tensor(True)}
    wrapped = {"state_dict": {"a": base.bfloat16(), "b": base}, "epoch": 3, "lr": [0.5, None]}
    return [
        saved(strided),
        saved(wrapped),
        saved(tensors),
        saved(strided, pickle_protocol=4),  # which torch's restricted reader does not know
        Archive(members(), end64={}).build(),
        saved(strided, _use_new_zipfile_serialization=False),
        saved(wrapped, _use_new_zipfile_serialization=False),
        safetensors.torch.save(tensors, {"format": "pt"}),
        safetensors.torch.save({"a": base, "b": base.bfloat16(), "c": torch.tensor(7)}),
    ]


OPCODES = (
    b"(.012FIJKLMNPQRSTUVX]abcdeghijlopqrstu})"
    b"\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x93\x94\x95BCG"
)
Random = random.Random


def _place(rng: Random, content: bytearray, longest: int = 64) -> tuple[int, int]:
    """Start and end of a range in ``content``."""
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.randint(1, longest))


def flip_bits(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def overwrite(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    start, end = _place(rng, content, 16)
    content[start:end] = rng.randbytes(end - start)


def insert(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    start, _ = _place(rng, content)
    content[start:start] = rng.randbytes(rng.randint(1, 16))


def delete(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    start, end = _place(rng, content)
    del content[start:end]


def duplicate(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    start, end = _place(rng, content)
    to = rng.choice((start, end, rng.randrange(len(content) + 1)))
    content[to:to] = content[start:end]


def move(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    """Copy a range over another: the file keeps its length."""
    start, end = _place(rng, content)
    to = rng.randrange(len(content) + 1)
    piece = content[start:end][: len(content) - to]
    content[to : to + len(piece)] = piece


def splice(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    other = rng.choice(all_seeds)
    cut = rng.randrange(len(other) + 1)
    content[rng.randrange(len(content) + 1) :] = other[cut:]


def replace_number(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    """Put an interesting number over one of 2, 4 or 8 bytes, or move that by one."""
    width = rng.choice((2, 4, 8))
    if len(content) < width:
        return
    at = rng.randrange(len(content) - width + 1)
    old = int.from_bytes(content[at : at + width], "little")
    size = len(content)
    new = rng.choice((0, 1, -1, 2**31, 2**63, size, size - 1, size + 1, old - 1, old + 1, 2 * old))
    content[at : at + width] = (new % 2 ** (8 * width)).to_bytes(width, "little")


def replace_digits(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    """Change a number that is written in digits, as safetensors headers have them."""
    places = [n for n, byte in enumerate(content) if 0x30 <= byte <= 0x39]
    if places:
        at = rng.choice(places)
        content[at : at + 1] = rng.choice((b"0", b"1", b"8", b"-1", b"1.0", b"9223372036854775808"))


def swap_opcode(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    places = [n for n, byte in enumerate(content[:2048]) if byte in OPCODES]
    if places:
        content[rng.choice(places)] = rng.choice(OPCODES)


def resize(rng: Random, content: bytearray, all_seeds: list[bytes]) -> None:
    if rng.random() < 0.5:
        del content[rng.randrange(len(content) + 1) :]
    else:
        content += rng.choice((bytes(rng.randint(1, 40)), rng.randbytes(8), rng.choice(all_seeds)))


MUTATORS = (
    flip_bits,
    overwrite,
    insert,
    delete,
    duplicate,
    move,
    splice,
    replace_number,
    replace_digits,
    swap_opcode,
    resize,
)


def mutation(seed: int, number: int, all_seeds: list[bytes]) -> bytes:
    """The mutated file of that number: one to three changes of one of the seeds."""
    rng = Random(f"{seed} {number}")
    content = bytearray(rng.choice(all_seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(MUTATORS)(rng, content, all_seeds)
    return without_crc(bytes(content[:FILE_LIMIT]), rng)


def without_crc(content: bytes, rng: Random) -> bytes:
    """Mostly take the CRCs of a zip away, so that a change in a member can matter."""
    if not content.startswith(b"PK") or rng.random() < 0.3:
        return content
    changed = bytearray(content)
    for signature, offset in ((b"PK\3\4", 14), (b"PK\1\2", 16), (b"PK\7\10", 4)):
        at = changed.find(signature)
        while at >= 0:
            if at + offset + 4 <= len(changed):
                changed[at + offset : at + offset + 4] = bytes(4)
            at = changed.find(signature, at + 4)
    return bytes(changed)


# --- The oracle ------------------------------------------------------------------------------


WITHOUT_TORCH = ("F4", "F6_E2M3", "F6_E3M2")
"""Types of safetensors that torch has no tensors of: only their bytes can be read."""


@dataclass
class Tally:
    """How many files were refused, read, and compared with the library's reading."""

    refused: int = 0
    read: int = 0
    compared: int = 0


def examine(
    content: bytes, path: Path, label: str, tally: Tally, opener: Open = open_checkpoint
) -> None:
    """Write ``content`` to ``path`` and read it.

    Raises FuzzError for anything but a clear refusal or a correct reading; the file is kept then.
    """
    path.write_bytes(content)
    try:
        with _alarm():
            _examine(content, path, tally, opener)
    except Exception as error:
        kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / "input"
        kept.write_bytes(content)
        raise FuzzError(f"{label}: {type(error).__name__}: {error}; the file is {kept}") from error


def _examine(content: bytes, path: Path, tally: Tally, opener: Open) -> None:
    try:
        checkpoint = opener(path)
        read = {
            name: checkpoint.tensor(name)
            for name, info in checkpoint.tensors.items()
            if info.dtype not in WITHOUT_TORCH
        }
        for name, info in checkpoint.tensors.items():
            content_of = b"".join(checkpoint.chunks(name))
            assert len(content_of) == info.nbytes, name
            assert name not in read or content_of == bytes(packed(read[name])), name
    except CheckpointError as error:
        require_clear(error, path.name)
        tally.refused += 1
        return
    try:
        identify(checkpoint.tensors)
    except CheckpointError as error:
        if not str(error).isprintable():
            raise FuzzError(f"identify says {str(error)!a}") from error
    tally.read += 1
    reference = _reference(content, checkpoint.files[0].container)
    if reference is None:
        return
    tally.compared += 1
    assert read.keys() == {n for n, v in reference.items() if isinstance(v, torch.Tensor)}
    for name, value in read.items():
        expected = reference[name]
        assert isinstance(expected, torch.Tensor)
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape), name
        stored = expected.detach()
        if stored.dtype == torch.bool:  # copying a damaged one would make 1 of any other byte
            stored = stored.view(torch.uint8)
        theirs = stored.clone(memory_format=torch.contiguous_format)  # it may lie anyhow
        assert bytes(packed(value)) == bytes(packed(theirs)), name


def _reference(content: bytes, container: str) -> dict[str, object] | None:
    """What the container's own library reads; None where it refuses."""
    try:
        if container == "safetensors":
            return {**safetensors.torch.load(content)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # it refuses in many ways
        return None
    while inner := _inner(state):
        state = inner
    return {name: value for name, value in state.items() if isinstance(name, str)}


def _inner(state: dict[object, object]) -> dict[object, object] | None:
    """The dict of tensors in another one: under its usual key, or under any where there is one."""

    def holds(value: object, depth: int) -> bool:
        if not isinstance(value, dict):
            return False
        named = [isinstance(n, str) and isinstance(v, torch.Tensor) for n, v in value.items()]
        return any(named) or (depth > 0 and holds(value.get("state_dict"), depth - 1))

    if isinstance(usual := state.get("state_dict"), dict):
        return usual
    inner = [value for value in state.values() if isinstance(value, dict) and holds(value, 1)]
    return inner[0] if len(inner) == 1 and not holds(state, 0) else None


@contextmanager
def _alarm() -> Iterator[None]:
    """Raise TimeoutError where the block takes too much of the processor's time."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it takes more than {SECONDS_LIMIT} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the files, in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def run(seed: int, numbers: range, progress: Callable[[int], None] = lambda done: None) -> Tally:
    """Examine the mutations of these numbers.  Raises FuzzError."""
    tally, all_seeds = Tally(), seeds()
    with scratch_folder() as folder:
        for content in all_seeds:
            examine(content, folder / "x", "a seed", tally)
        assert tally == Tally(0, len(all_seeds), len(all_seeds) - 1)
        before = _peak_memory()
        for number in numbers:
            content = mutation(seed, number, all_seeds)
            examine(content, folder / "x", f"seed {seed}, number {number}", tally)
            if number % 1000 == 0:
                if _peak_memory() - before > MEMORY_LIMIT:
                    raise FuzzError(f"seed {seed}, up to number {number}: takes too much memory")
                progress(number)
        if _peak_memory() - before > MEMORY_LIMIT:
            raise FuzzError(f"seed {seed}, numbers {numbers}: takes too much memory")
    return tally


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# --- Guided by coverage ----------------------------------------------------------------------


def run_atheris(mutations: int, seed: int) -> None:
    """Let atheris mutate, guided by which branches of the reader a file reaches."""
    try:
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        print("--atheris needs atheris: pip install atheris (Linux, CPython).", file=sys.stderr)
        sys.exit(2)
    for module in [name for name in sys.modules if name.startswith("erasepro_convert.checkpoint")]:
        del sys.modules[module]  # to be imported anew, instrumented
    with atheris.instrument_imports(include=["erasepro_convert.checkpoint"]):
        from erasepro_convert.checkpoint import open_checkpoint as instrumented
    tally = Tally()
    with scratch_folder() as folder:
        (folder / "corpus").mkdir()
        for number, content in enumerate(seeds()):
            (folder / "corpus" / str(number)).write_bytes(content)

        def test_one(content: bytes) -> None:
            examine(content, folder / "x", "atheris", tally, instrumented)

        options = [f"-runs={mutations}", f"-seed={seed + 1}", f"-max_len={FILE_LIMIT}"]
        atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], test_one)
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="guided by coverage")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.atheris:
        run_atheris(arguments.mutations, arguments.seed)
        return
    start = time.monotonic()

    def progress(number: int) -> None:
        if number % 50_000 == 0:
            print(f"{number} mutations, {time.monotonic() - start:.0f} s", flush=True)

    print(run(arguments.seed, range(arguments.mutations), progress))


if __name__ == "__main__":
    main()
