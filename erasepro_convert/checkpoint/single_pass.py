"""One pass over a checkpoint: what is written is read, checked and hashed on the way."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from erasepro_convert.checkpoint import Checkpoint, CheckpointFile, FileHashes
from erasepro_convert.checkpoint.file import Read
from erasepro_convert.checkpoint.open_file import Hashing
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import is_finite
from erasepro_convert.runtime.printable import prefixing_errors
from erasepro_convert.storage.remote_file import RemoteFile

Span = tuple[int, int]

WASTE = 10
"""A file elsewhere is hashed if no more than one in so many of its bytes travels for that alone."""


class SinglePass:
    """Reads tensors of a checkpoint, once each, while its files' digests are made.

    Files that are elsewhere have no digest where too much would travel for it alone.
    """

    def __init__(self, checkpoint: Checkpoint, progress: Callable[[int, int], None]) -> None:
        """``progress`` gets the bytes hashed so far and those of all files."""
        self._checkpoint = checkpoint
        self._progress = progress
        self._done = [0] * len(checkpoint.files)
        self._asked = False
        # By identity: files given in two folders can have one name.
        self._hashing: dict[int, Hashing] = {}
        self._read: dict[int, Read] = {}
        for number, file in enumerate(checkpoint.files):
            self._read[id(file)] = file.file.chunks
            if not isinstance(file.file, RemoteFile):
                self._hash(file, file.hashing(partial(self._report, number)))

    def expect(self, names: Sequence[str], edited: Sequence[str]) -> None:
        """Say which tensors will be read, in this order, and which are read elsewhere."""
        for number, file in enumerate(self._checkpoint.files):
            if not isinstance(file.file, RemoteFile):
                continue
            order = self._spans(file, names)
            all_of_it, waste = _with_the_rest(order, file.file.size)
            waste -= sum(count for _, count in self._spans(file, edited))
            if self._asked or waste * WASTE > file.file.size:
                self._read[id(file)] = file.file.prefetching(order).chunks
            else:
                report = partial(self._report, number)
                self._hash(file, file.hashing(report, file.file.prefetching(all_of_it)))

    def chunks(self, name: str) -> Iterator[memoryview]:
        """The packed values of a tensor, piece by piece.

        Raises CheckpointError for NaN and infinity, and for bytes that are not as the file says.
        """
        owner, info = self._checkpoint.owner(name), self._checkpoint.tensors[name]
        for chunk in owner.chunks(info, self._read[id(owner)]):
            if not is_finite(info.dtype, chunk):
                raise CheckpointError(
                    f"{self._checkpoint.name}: {name} holds NaN or infinite values"
                )
            yield chunk

    def hashes(self) -> tuple[FileHashes | None, ...]:
        """Digests of the files, after reading what nobody wanted of them.

        What is asked for before it is known what will be read is None for a file elsewhere.
        """
        self._asked = True
        hashes = []
        for number, file in enumerate(self._checkpoint.files):
            hashing = self._hashing.get(id(file))
            with prefixing_errors(file.name):
                hashes.append(hashing.finish() if hashing else None)
            self._report(number, file.file.size)
        return tuple(hashes)

    def _hash(self, file: CheckpointFile, hashing: Hashing) -> None:
        self._hashing[id(file)] = hashing
        self._read[id(file)] = hashing.chunks

    def _report(self, number: int, done: int) -> None:
        self._done[number] = done
        self._progress(sum(self._done), self._checkpoint.size)

    def _spans(self, file: CheckpointFile, names: Sequence[str]) -> list[Span]:
        """Where tensors lie in a file, of those that do."""
        infos = [self._checkpoint.tensors[n] for n in names if self._checkpoint.owner(n) is file]
        return [(info.offset, info.nbytes) for info in infos if info.contiguous]


def _with_the_rest(order: Sequence[Span], size: int) -> tuple[list[Span], int]:
    """What is read where ``order`` is and a digest is made of it all, and the bytes for that."""
    spans: list[Span] = []
    done = waste = 0
    for start, count in (*order, (size, 0)):
        if start > done:
            spans.append((done, start - done))
            waste += start - done
        spans.append((start, count))
        done = max(done, start + count)
    return spans, waste
