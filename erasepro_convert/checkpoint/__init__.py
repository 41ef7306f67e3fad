"""Open any checkpoint, file or diffusers folder, and read its tensors, running nothing of it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.diffusers_folder import Configuration, open_folder
from erasepro_convert.checkpoint.file import CheckpointFile, open_file
from erasepro_convert.checkpoint.open_file import FileHashes
from erasepro_convert.checkpoint.tensor_info import TensorInfo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.listing import is_folder
from erasepro_convert.storage.location import Location, file_name
from erasepro_convert.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "CheckpointFile", "FileHashes", "TensorInfo", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one or several files: places, dtypes, shapes, and values on demand.

    ``others`` says why each entry that is no tensor is left out; ``configurations`` has those of a
    diffusers folder, as they stand there.  The files stay open as long as this object.
    """

    name: str
    files: tuple[CheckpointFile, ...]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    others: Mapping[str, str]
    configurations: Mapping[str, Configuration]
    _owners: Mapping[str, CheckpointFile] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.file.size for file in self.files)

    @property
    def asks_for(self) -> tuple[str, ...]:
        """What the pickles name."""
        return tuple(sorted({name for file in self.files for name in file.contents.asks_for}))

    def owner(self, name: str) -> CheckpointFile:
        """The file that a tensor is in."""
        return self._owners[name]

    def chunks(self, name: str) -> Iterator[memoryview]:
        """The packed values of a tensor, piece by piece."""
        return self._owners[name].chunks(self.tensors[name])

    def prefetching(self, names: Sequence[str]) -> Callable[[str], Iterator[memoryview]]:
        """The same as ``chunks``, for one that will ask for these tensors, in this order."""
        spans: dict[int, list[tuple[int, int]]] = {id(file): [] for file in self.files}
        for name in names:
            info = self.tensors[name]
            if info.contiguous:
                spans[id(self._owners[name])].append((info.offset, info.nbytes))
        readers = {id(file): file.file.prefetching(spans[id(file)]) for file in self.files}

        def chunks(name: str) -> Iterator[memoryview]:
            owner = self._owners[name]
            return owner.chunks(self.tensors[name], readers[id(owner)].chunks)

        return chunks

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Names of tensors in the order of the files and their bytes."""
        files = {id(file): number for number, file in enumerate(self.files)}
        return sorted(names, key=lambda n: (files[id(self._owners[n])], self.tensors[n].offset))

    def tensor(self, name: str) -> "torch.Tensor":
        """A contiguous copy of a tensor, in its stored dtype."""
        return self._owners[name].tensor(self.tensors[name])

    def give_up(self) -> None:
        """Say that no more will be read: what other threads ask of a store fails at once."""
        for file in self.files:
            if isinstance(file.file, RemoteFile):
                file.file.give_up()

    def joined(
        self, file: CheckpointFile, prefix: str = "", only: Collection[str] | None = None
    ) -> "Checkpoint":
        """With the tensors of another file, or ``only`` some; ``prefix`` goes before their names.

        Raises CheckpointError when a tensor is there already.
        """
        found = file.contents
        tensors = {prefix + n: t for n, t in found.tensors.items() if only is None or n in only}
        twice = next((name for name in tensors if name in self.tensors), None)
        if twice is not None:
            raise CheckpointError(f"{file.name}: {twice} is in another file as well")
        metadata, others = ({}, {}) if only is not None else (found.metadata, found.others)
        return Checkpoint(
            self.name,
            (*self.files, file),
            {**self.tensors, **tensors},
            {**self.metadata, **metadata},
            {**self.others, **{prefix + name: reason for name, reason in others.items()}},
            self.configurations,
            {**self._owners, **dict.fromkeys(tensors, file)},
        )


def open_checkpoint(path: Location) -> Checkpoint:
    """Open a file of any container, or a diffusers folder; here, or in a store.

    Raises CheckpointError, naming the file, for what is no sound checkpoint, StorageError when a
    store fails; OSError passes through.
    """
    name = printable(file_name(path))
    if not is_folder(path):
        return Checkpoint(name, (), {}, {}, {}, {}, {}).joined(open_file(path, name))
    name = printable(file_name(path.resolve()))  # "." has none of its own
    folder = open_folder(path, name)
    checkpoint = Checkpoint(name, (), {}, {}, folder.others, folder.configurations, {})
    for component, file in folder.files:
        checkpoint = checkpoint.joined(file, f"{component}.")
    return checkpoint
