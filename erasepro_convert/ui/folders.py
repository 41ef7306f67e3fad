"""The folders that the user named: nothing outside them is read or written."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import erasepro_convert as erasepro
from erasepro_convert.errors import EraseproError, UsageError

RECIPES = (".yaml", ".yml")
EVIDENCE = ".zip"
"""What the name of evidence ends in."""
MISTAKES = (EraseproError, OSError)
"""What a path or its file can be refused with; the page shows it beside the field."""


class Folders:
    """Folders with all that lies below them; what links lead to counts as where it really lies."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Take the folders; relative paths start at the first.

        Raises UsageError for one that is none.
        """
        for root in roots:
            if not root.is_dir():
                raise UsageError(f"{root}: this is no folder")
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def to_read(self, text: str) -> Path:
        """Return where a file or a folder that a user named really lies.

        Raises UsageError for nothing, for what is not there, and for what lies elsewhere, as a
        whole or, of a folder, in a part.
        """
        path = self._resolve(text)
        self._require_within(text, path)
        if not path.exists():
            raise UsageError(f"{text}: there is no such file")
        if path.is_dir():
            for inside in path.rglob("*"):
                self._require_within(str(inside), Path(os.path.realpath(inside)))
        return path

    def to_write(self, text: str) -> Path:
        """Return where a file that a user named would be written.

        A link of this name would be replaced, and not followed.  Raises UsageError for nothing and
        for what lies elsewhere.
        """
        named = Path(self._checked(text))
        if named.name in ("", "..", "."):
            raise UsageError(f"{text}: this is a folder; name a file in it")
        folder = self._resolve(str(named.parent))
        self._require_within(text, folder / named.name)
        return folder / named.name

    def folder_to_write(self, text: str) -> Path:
        """Return where a folder that a user named really lies, or will lie.

        Raises UsageError for nothing and for what lies elsewhere.
        """
        path = self._resolve(text)
        self._require_within(text, path)
        return path

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints in the folders, the newest first."""
        return self._listed(erasepro.find_checkpoints)

    def recipes(self) -> list[Path]:
        """Return the files in the folders that are recipes by their names, the newest first."""
        return self._listed(lambda root: tuple(_named(root, RECIPES)))

    def evidence(self) -> list[Path]:
        """Return the files in the folders that are evidence by their names, the newest first."""
        return self._listed(lambda root: tuple(_named(root, (f".evidence{EVIDENCE}",))))

    def require_inside_beside(self, path: Path) -> None:
        """Raise UsageError for a link beside a file that leads elsewhere: it could be read too."""
        for beside in path.parent.iterdir():
            if beside.is_symlink():
                self._require_within(str(beside), Path(os.path.realpath(beside)))

    def _listed(self, find: Callable[[Path], tuple[Path, ...]]) -> list[Path]:
        found = {Path(os.path.realpath(path)) for root in self.roots for path in find(root)}
        inside = [path for path in found if self._is_within(path) and path.exists()]
        return sorted(inside, key=lambda path: (-path.stat().st_mtime, path))

    def _checked(self, text: str) -> str:
        if not text.strip():
            raise UsageError("choose a file first")
        if "\0" in text:
            raise UsageError("a path cannot have a NUL character")
        return text

    def _resolve(self, text: str) -> Path:
        return Path(os.path.realpath(self.roots[0] / Path(self._checked(text)).expanduser()))

    def _is_within(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self.roots)

    def _require_within(self, text: str, path: Path) -> None:
        if not self._is_within(path):
            folders = ", ".join(map(str, self.roots))
            raise UsageError(
                f"{text}: lies outside of the folders that this page may use ({folders}); start "
                "erasepro-convert ui with another --folder"
            )


def _named(root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(endings) and not name.startswith("."):
                yield Path(folder, name)
