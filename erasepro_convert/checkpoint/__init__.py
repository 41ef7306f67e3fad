"""Open any checkpoint, file or diffusers folder, and read its tensors without running its code."""

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
    """The tensors of one or several files: positions, dtypes, shapes, and values on demand.

    ``skipped`` gives the reason why each other entry is left out.  ``configurations`` holds those
    of a diffusers folder by component, unchanged.  The files stay open as long as this object
    lives.
    """

    name: str
    files: tuple[CheckpointFile, ...]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    skipped: Mapping[str, str]
    configurations: Mapping[str, Configuration]
    _owners: Mapping[str, CheckpointFile] = field(repr=False)

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(file.file.size for file in self.files)

    @property
    def pickle_globals(self) -> tuple[str, ...]:
        """The globals (classes and functions) that the files' pickles name."""
        return tuple(sorted({name for file in self.files for name in file.parsed.pickle_globals}))

    def owner(self, name: str) -> CheckpointFile:
        """Return the file that a tensor is in."""
        return self._owners[name]

    def chunks(self, name: str) -> Iterator[memoryview]:
        """Return the packed values of a tensor, in chunks."""
        return self._owners[name].chunks(self.tensors[name])

    def prefetching(self, names: Sequence[str]) -> Callable[[str], Iterator[memoryview]]:
        """Return a function like ``chunks`` that requests these tensors ahead, in this order."""
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
        """Sort names of tensors by their position in the files."""
        files = {id(file): number for number, file in enumerate(self.files)}
        return sorted(names, key=lambda n: (files[id(self._owners[n])], self.tensors[n].offset))

    def tensor(self, name: str) -> "torch.Tensor":
        """Return a contiguous copy of a tensor, in its stored dtype."""
        return self._owners[name].tensor(self.tensors[name])

    def give_up(self) -> None:
        """Stop reading: requests of other threads to a store fail at once."""
        for file in self.files:
            if isinstance(file.file, RemoteFile):
                file.file.give_up()

    def joined(
        self, file: CheckpointFile, prefix: str = "", only: Collection[str] | None = None
    ) -> "Checkpoint":
        """This checkpoint with the tensors of another file, or with those in ``only``.

        ``prefix`` goes before their names.  Raises CheckpointError when a name is there already.
        """
        found = file.parsed
        tensors = {prefix + n: t for n, t in found.tensors.items() if only is None or n in only}
        twice = next((name for name in tensors if name in self.tensors), None)
        if twice is not None:
            raise CheckpointError(f"{file.name}: {twice} is in another file as well")
        metadata, skipped = ({}, {}) if only is not None else (found.metadata, found.skipped)
        return Checkpoint(
            self.name,
            (*self.files, file),
            {**self.tensors, **tensors},
            {**self.metadata, **metadata},
            {**self.skipped, **{prefix + name: reason for name, reason in skipped.items()}},
            self.configurations,
            {**self._owners, **dict.fromkeys(tensors, file)},
        )


def open_checkpoint(path: Location) -> Checkpoint:
    """Open a file of any container, or a diffusers folder, on the disk or in a store.

    Raises CheckpointError, naming the file, for what is no sound checkpoint, and StorageError when
    a store fails; OSError passes through.
    """
    name = printable(file_name(path))
    if not is_folder(path):
        return Checkpoint(name, (), {}, {}, {}, {}, {}).joined(open_file(path, name))
    name = printable(file_name(path.resolve()))  # "." has no name of its own
    folder = open_folder(path, name)
    checkpoint = Checkpoint(name, (), {}, {}, folder.skipped, folder.configurations, {})
    for component, file in folder.files:
        checkpoint = checkpoint.joined(file, f"{component}.")
    return checkpoint
