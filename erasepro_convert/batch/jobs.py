"""What a batch is to do: a recipe, an input and an output for each job."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from erasepro_convert.batch.inputs import HERE, Input
from erasepro_convert.checkpoint.names import printable
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.document import Document, read_document
from erasepro_convert.storage import Location, locate, name_of

NAME = "{folder}/{stem}-{recipe}.safetensors"
"""An output's name, unless the user says otherwise."""
LONGEST_PATH = 4096
SHOWN = 5
"""Clashes that a message lists."""


@dataclass(frozen=True)
class Job:
    """One conversion.

    ``output`` is what it is called: a path below the output folder, with a slash at the end where
    it is to be a diffusers folder.
    """

    recipe: Recipe
    source: Location
    output: str

    @property
    def name(self) -> str:
        """The output's name without a slash at the end."""
        return self.output.rstrip("/")


@dataclass(frozen=True)
class Named:
    """A recipe and what its file is called, without the suffix."""

    name: str
    recipe: Recipe


class _Pair(BaseModel):
    """An entry of a job file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Annotated[str, Field(min_length=1)]
    input: Annotated[str, Field(min_length=1)]
    output: str | None = None


class _Pairs(BaseModel):
    """A job file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    jobs: Annotated[tuple[_Pair, ...], Field(min_length=1)]


def cross(recipes: Sequence[Named], inputs: Iterable[Input], template: str) -> list[Job]:
    """Every input with every recipe."""
    return [
        Job(named.recipe, one.path, _filled(template, one.path, one.below, named.name))
        for one in inputs
        for named in recipes
    ]


def read_given(path: Path, template: str) -> Named | list[Job]:
    """A recipe, or the jobs of a file that has the key ``jobs``.

    Paths in it are relative to the file.  Raises RecipeError with the line of each mistake.
    """
    document = read_document(path)
    if not isinstance(document.data, dict) or "jobs" not in document.data:
        return Named(path.stem, load_recipe(path))
    try:
        pairs = _Pairs.model_validate(document.data).jobs
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(path, document, error))) from error
    recipes = {name: load_recipe(path.parent / name) for name in {pair.recipe for pair in pairs}}
    jobs = []
    for pair in pairs:
        source = locate(pair.input)
        if isinstance(source, Path):
            source = path.parent / source
        output = pair.output or _filled(template, source, HERE, Path(pair.recipe).stem)
        jobs.append(Job(recipes[pair.recipe], source, _normal(output)))
    return jobs


def require_apart(jobs: Iterable[Job]) -> None:
    """Raise UsageError where two jobs would write the same output, or one inside another."""
    names = Counter(job.name for job in jobs)
    twice = [name for name, count in names.items() if count > 1]
    twice += [name for name in names if any(str(p) in names for p in PurePosixPath(name).parents)]
    if twice:
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        raise UsageError(
            f"several jobs would write {', '.join(twice[:SHOWN])}{more}; --name gives outputs "
            "other names (from {folder}, {stem}, {suffix} of the input and {recipe})"
        )


def _filled(template: str, source: Location, below: PurePosixPath, recipe: str) -> str:
    name = PurePosixPath(name_of(source))
    parts = {"stem": name.stem, "suffix": name.suffix.lstrip("."), "recipe": recipe}
    try:
        return _normal(template.format(folder=below, **parts))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(
            f"--name {template}: it may have {{folder}}, {{stem}}, {{suffix}} and {{recipe}}"
        ) from error


def _normal(output: str) -> str:
    """A path below the output folder, in one spelling.  Raises UsageError for any other.

    What cannot be printed in the name of an input is spelt out in that of its output.
    """
    path = PurePosixPath(printable(output, LONGEST_PATH))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"{output}: an output lies below the output folder")
    if not output.endswith("/") and path.suffix != ".safetensors":
        raise UsageError(f"{output}: an output's name ends in .safetensors, or in / for a folder")
    return str(path) + ("/" if output.endswith("/") else "")


def _explain(path: Path, document: Document, error: ValidationError) -> list[str]:
    lines = []
    for mistake in error.errors():
        place = mistake["loc"]
        while place not in document.lines:
            place = place[:-1]
        where = ".".join(map(str, mistake["loc"]))
        lines.append(f"{path}:{document.lines[place]}: {where}: {mistake['msg'].lower()}")
    return lines
