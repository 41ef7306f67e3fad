"""One pass over a checkpoint: what is written is read, checked and hashed on the way."""

from collections.abc import Callable, Iterator
from functools import partial

from erasepro_convert.checkpoint import Checkpoint, FileHashes
from erasepro_convert.checkpoint.names import naming
from erasepro_convert.dtypes import is_finite
from erasepro_convert.errors import CheckpointError


class Examination:
    """Reads tensors of a checkpoint, once each, while its files' digests are made."""

    def __init__(self, checkpoint: Checkpoint, progress: Callable[[int, int], None]) -> None:
        """``progress`` gets the bytes hashed so far and those of all files."""
        self._checkpoint = checkpoint
        done = [0] * len(checkpoint.files)

        def report(number: int, of_file: int) -> None:
            done[number] = of_file
            progress(sum(done), checkpoint.size)

        self._hashing = {  # by identity: files given in two folders can have one name
            id(file): file.hashing(partial(report, number))
            for number, file in enumerate(checkpoint.files)
        }

    def chunks(self, name: str) -> Iterator[memoryview]:
        """The packed values of a tensor, piece by piece.

        Raises CheckpointError for NaN and infinity, and for bytes that are not as the file says.
        """
        owner, info = self._checkpoint.owner(name), self._checkpoint.tensors[name]
        for chunk in owner.chunks(info, self._hashing[id(owner)].chunks):
            if not is_finite(info.dtype, chunk):
                raise CheckpointError(
                    f"{self._checkpoint.name}: {name} holds NaN or infinite values"
                )
            yield chunk

    def hashes(self) -> tuple[FileHashes, ...]:
        """Digests of the files, after reading what nobody wanted of them."""
        hashes = []
        for file in self._checkpoint.files:
            with naming(file.name):
                hashes.append(self._hashing[id(file)].finish())
        return tuple(hashes)
