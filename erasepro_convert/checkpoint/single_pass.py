"""One pass over a checkpoint, in which tensors are read and checked and the files are hashed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from erasepro_convert.checkpoint import Checkpoint, CheckpointFile, FileHashes
from erasepro_convert.checkpoint.file import ReadChunks
from erasepro_convert.checkpoint.open_file import FileHasher
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import is_finite
from erasepro_convert.runtime.printable import prefixing_errors
from erasepro_convert.storage.remote_file import RemoteFile

Span = tuple[int, int]
"""The start of a range of bytes and its length."""

WASTE_DIVISOR = 10
"""A file in a store is hashed if at most one in so many bytes is transferred for that alone."""


class SinglePass:
    """Reads tensors of a checkpoint once each, and hashes its files meanwhile.

    A file in a store is not hashed where too many bytes would be transferred only for that.
    """

    def __init__(
        self, checkpoint: Checkpoint, progress: Callable[[int, int], None], *, autov3: bool = False
    ) -> None:
        """``progress`` gets the bytes hashed so far and the bytes of all files."""
        self._checkpoint = checkpoint
        self._autov3 = autov3
        self._progress = progress
        self._done = [0] * len(checkpoint.files)
        self._hashes_taken = False
        # The keys are identities, since files from two folders can have the same name.
        self._hashers: dict[int, FileHasher] = {}
        self._read: dict[int, ReadChunks] = {}
        for number, file in enumerate(checkpoint.files):
            self._read[id(file)] = file.file.chunks
            if not isinstance(file.file, RemoteFile):
                self._hash(file, file.hasher(partial(self._report, number), autov3=autov3))

    def expect(self, names: Sequence[str], edited: Sequence[str]) -> None:
        """Announce the tensors that will be read, in order, and those that another reader reads."""
        for number, file in enumerate(self._checkpoint.files):
            if not isinstance(file.file, RemoteFile):
                continue
            order = self._spans(file, names)
            covering, waste = _covering_spans(order, file.file.size)
            waste -= sum(count for _, count in self._spans(file, edited))
            if self._hashes_taken or waste * WASTE_DIVISOR > file.file.size:
                self._read[id(file)] = file.file.prefetching(order).chunks
            else:
                report = partial(self._report, number)
                reader = file.file.prefetching(covering)
                self._hash(file, file.hasher(report, reader, autov3=self._autov3))

    def chunks(self, name: str) -> Iterator[memoryview]:
        """Give the packed values of a tensor, in chunks.

        Raises CheckpointError for NaN and infinity, and for bytes whose CRC is wrong.
        """
        owner, info = self._checkpoint.owner(name), self._checkpoint.tensors[name]
        for chunk in owner.chunks(info, self._read[id(owner)]):
            if not is_finite(info.dtype, chunk):
                raise CheckpointError(
                    f"{self._checkpoint.name}: {name} holds NaN or infinite values"
                )
            yield chunk

    def hashes(self) -> tuple[FileHashes | None, ...]:
        """Return the digests of the files, after reading the rest of each.

        The digest of a file in a store is None where hashing it would transfer too much, or where
        this is called before ``expect``.
        """
        self._hashes_taken = True
        hashes = []
        for number, file in enumerate(self._checkpoint.files):
            hasher = self._hashers.get(id(file))
            with prefixing_errors(file.name):
                hashes.append(hasher.finish() if hasher else None)
            self._report(number, file.file.size)
        return tuple(hashes)

    def _hash(self, file: CheckpointFile, hasher: FileHasher) -> None:
        self._hashers[id(file)] = hasher
        self._read[id(file)] = hasher.chunks

    def _report(self, number: int, done: int) -> None:
        self._done[number] = done
        self._progress(sum(self._done), self._checkpoint.size)

    def _spans(self, file: CheckpointFile, names: Sequence[str]) -> list[Span]:
        """Return the ranges of those of the tensors that lie in ``file``."""
        infos = [self._checkpoint.tensors[n] for n in names if self._checkpoint.owner(n) is file]
        return [(info.offset, info.nbytes) for info in infos if info.contiguous]


def _covering_spans(order: Sequence[Span], size: int) -> tuple[list[Span], int]:
    """Return the ranges that are read where ``order`` is wanted and the whole file is hashed.

    The second value is the number of bytes that are read for hashing alone.
    """
    spans: list[Span] = []
    done = waste = 0
    for start, count in (*order, (size, 0)):
        if start > done:
            spans.append((done, start - done))
            waste += start - done
        spans.append((start, count))
        done = max(done, start + count)
    return spans, waste
