"""Recipes by name: those in the user's own folders, and the library that is shipped.

Only names of files are looked at here, so that it costs nothing to list them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from platformdirs import user_config_path

from erasepro_convert.errors import UsageError
from erasepro_convert.runtime.printable import quoted

VARIABLE = "ERASEPRO_RECIPES"
"""The environment variable with the user's folders, separated as in PATH."""
SUFFIXES = (".yaml", ".yml")
SHIPPED_FOLDERS = ("safety", "artists", "characters", "logos")


@dataclass(frozen=True)
class NamedFile:
    """A recipe that has a name: the name of its file without the suffix.

    ``folder`` is the folder below ``root`` that it lies in, "" for ``root`` itself.
    """

    name: str
    file: Path
    folder: str
    root: Path


def shipped_root() -> Path:
    """Return the folder of the shipped recipes: in the package, or beside it in its sources."""
    packaged = Path(__file__).with_name("recipes")
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "recipes"


def own_roots() -> tuple[Path, ...]:
    """Return the user's folders, the one that counts most first.

    Raises UsageError where the environment variable names a folder that is not there.
    """
    named = tuple(Path(root) for root in os.environ.get(VARIABLE, "").split(os.pathsep) if root)
    for root in named:
        if not root.is_dir():
            raise UsageError(f"{VARIABLE} names {root}, which is no folder")
    return (*named, user_config_path("erasepro-convert") / "recipes")


def find_all() -> dict[str, NamedFile]:
    """Return every recipe that has a name; what comes first hides what has the same name.

    Raises UsageError where two recipes below one folder have the same name.
    """
    found: dict[str, NamedFile] = {}
    for root in own_roots():
        _add(found, root, ("", *sorted(path.name for path in root.glob("*/"))))
    _add(found, shipped_root(), SHIPPED_FOLDERS)
    return found


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(find_all())


def recipe_files(given: Path | str, folder: Path = Path()) -> tuple[Path, ...]:
    """Return the files of a recipe that is given by path, by name, or as several with commas.

    Paths are relative to ``folder``.  A file that exists comes before a recipe of the same name,
    and before a list whose parts its name would be.

    Raises UsageError for a name that is neither a file nor a recipe.
    """
    text = str(given)
    if "," not in text or (folder / text).is_file():
        return (_find(text, folder),)
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise UsageError(f"{text}: a recipe is missing before or behind a comma")
    return tuple(dict.fromkeys(_find(part, folder) for part in parts))


def has_the_form_of_a_name(text: str) -> bool:
    """Whether a text is like names of recipes: no path, suffix, list or pattern."""
    return bool(text) and not Path(text).suffix and not set(text) & {os.sep, *"/,*?["}


def _find(text: str, folder: Path) -> Path:
    path = folder / text
    if path.is_file() or not has_the_form_of_a_name(text):
        return path
    named = find_all()
    if text in named:
        return named[text].file
    if path.exists():  # a folder, say, which the reader of recipes refuses in words
        return path
    near = get_close_matches(text.lower(), named, n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "erasepro-convert recipes lists all"
    raise UsageError(f"{quoted(text)} is neither a file nor the name of a recipe; {advice}")


def _add(found: dict[str, NamedFile], root: Path, folders: tuple[str, ...]) -> None:
    here: dict[str, NamedFile] = {}
    for folder in folders:
        for file in _yaml_files(root / folder):
            name = file.stem
            if not has_the_form_of_a_name(name):
                continue
            if name in here:
                raise UsageError(f"{here[name].file} and {file}: two recipes have the name {name}")
            here[name] = NamedFile(name, file, folder, root)
    for name, one in here.items():
        found.setdefault(name, one)


def _yaml_files(folder: Path) -> Iterator[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    yield from (f for f in files if f.suffix.lower() in SUFFIXES and f.is_file())
