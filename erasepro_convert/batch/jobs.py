"""The jobs of a batch: each has a recipe, an input and an output."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from erasepro_convert.batch.inputs import HERE, Input
from erasepro_convert.batch.ledger import LEDGER
from erasepro_convert.batch.summary import SUMMARY
from erasepro_convert.conversion.options import Options
from erasepro_convert.conversion.preflight import outputs_of
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.library import recipe_files
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.yaml_document import Document, read_document
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.location import Location, file_name, locate, redacted

NAME = "{folder}/{stem}-{recipe}.safetensors"
"""The default template for names of outputs."""
LONGEST_PATH = 4096
"""The most characters of a path in a name, a record or a line of the terminal."""
SHOWN_CLASHES = 5
"""How many clashes a message lists."""


@dataclass(frozen=True)
class Job:
    """One conversion.

    ``output`` identifies the job: it is a path below the output folder, and ends in a slash for a
    diffusers folder.  ``recipe_files`` are what the recipe was read from.
    """

    recipe: Recipe
    source: Location
    output: str
    recipe_files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The output's path without a slash at the end."""
        return self.output.rstrip("/")

    @property
    def output_is_folder(self) -> bool:
        """Whether the output is a diffusers folder, rather than a file."""
        return self.output.endswith("/")

    def options(self, options: Options) -> Options:
        """Return the batch's options, with ``folder`` set as the job's output needs it."""
        return replace(options, folder=self.output_is_folder)

    def outputs(self, folder: Location, options: Options) -> tuple[Location, ...]:
        """Return all files that the job writes in the output folder ``folder``."""
        return outputs_of(folder / self.output, self.options(options))


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe, the names of its files without suffixes, and the files."""

    name: str
    recipe: Recipe
    files: tuple[Path, ...] = ()


class _JobEntry(BaseModel):
    """An entry of a job file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Annotated[str, Field(min_length=1)]
    input: Annotated[str, Field(min_length=1)]
    output: str | None = None


class _JobFile(BaseModel):
    """A job file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    jobs: Annotated[tuple[_JobEntry, ...], Field(min_length=1)]


def pair_all(recipes: Sequence[NamedRecipe], inputs: Iterable[Input], template: str) -> list[Job]:
    """Return a job for every input with every recipe."""
    return [
        Job(
            named.recipe, item.path, _fill(template, item.path, item.below, named.name), named.files
        )
        for item in inputs
        for named in recipes
    ]


def read_recipe_or_jobs(given: Path | str, template: str) -> NamedRecipe | list[Job]:
    """Read a recipe by path or name, or the jobs of a file that has the key ``jobs``.

    Paths in a job file are relative to it.  Raises UsageError for a name that no recipe has, and
    RecipeError with the line of each mistake.
    """
    path, *more = recipe_files(given)
    document = None if more else read_document(path)
    if document is None or not isinstance(document.data, dict) or "jobs" not in document.data:
        return _named(given, Path())
    try:
        entries = _JobFile.model_validate(document.data).jobs
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(path, document, error))) from error
    recipes = {name: _named(name, path.parent) for name in {entry.recipe for entry in entries}}
    jobs = []
    for entry in entries:
        source = locate(entry.input)
        if isinstance(source, Path):
            source = path.parent / source
        named = recipes[entry.recipe]
        output = entry.output or _fill(template, source, HERE, named.name)
        jobs.append(Job(named.recipe, source, _normalise(output), named.files))
    return jobs


def _named(given: Path | str, folder: Path) -> NamedRecipe:
    files = recipe_files(given, folder)
    name = "+".join(file.stem for file in files)
    return NamedRecipe(name, load_recipe(given, folder), files)


def require_distinct(jobs: Iterable[Job], *, caseless: bool = False) -> None:
    """Raise UsageError where two jobs would write one output, or one inside the other's.

    ``caseless`` is for a folder that does not tell small from capital letters in names.
    """
    inputs_by_output: dict[str, list[str]] = {}
    for job in jobs:
        name = normalize("NFC", job.name.casefold()) if caseless else job.name
        inputs_by_output.setdefault(name, []).append(redacted(job.source))
    clashes = [
        f"{name} (of {' and '.join(inputs)})"
        for name, inputs in inputs_by_output.items()
        if len(inputs) > 1
    ]
    outputs = inputs_by_output.keys()
    clashes += [name for name in outputs if outputs & {*map(str, PurePosixPath(name).parents)}]
    if clashes:
        left = len(clashes) - SHOWN_CLASHES
        more = f" and {left} more" if left > 0 else ""
        shown = ", ".join(clashes[:SHOWN_CLASHES])
        raise UsageError(
            f"several jobs would write {shown}{more}; --name gives outputs "
            "other names, such as '{folder}/{stem}.{suffix}-{recipe}.safetensors'"
        )


def require_apart(
    jobs: Sequence[Job], folder: Location, records: Path | None, options: Options
) -> Inputs:
    """Return all files that the batch reads.

    Raises UsageError where a job, or the batch's record, would replace one of them.
    """
    recipes = {file for job in jobs for file in job.recipe_files}
    inputs = Inputs([*(job.source for job in jobs), *recipes, *options.read])
    inputs.require_apart(*(place for job in jobs for place in job.outputs(folder, options)))
    inputs.require_apart(*((records or folder) / name for name in (LEDGER, SUMMARY)))
    return inputs


def _fill(template: str, source: Location, below: PurePosixPath, recipe: str) -> str:
    """Return the output that a template gives for an input in folder ``below`` and a recipe."""
    name = PurePosixPath(file_name(source))
    parts = {"stem": name.stem, "suffix": name.suffix.lstrip("."), "recipe": recipe}
    try:
        return _normalise(template.format(folder=below, **parts))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(
            f"--name {template}: it may have {{folder}}, {{stem}}, {{suffix}} and {{recipe}}"
        ) from error


def _normalise(output: str) -> str:
    """Normalise the spelling of a path below the output folder; escape unprintable characters.

    Raises UsageError for a path that is not below the output folder, or has another suffix.
    """
    path = PurePosixPath(printable(output, LONGEST_PATH))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"{output}: an output lies below the output folder")
    if not output.endswith("/") and path.suffix != ".safetensors":
        raise UsageError(f"{output}: an output's name ends in .safetensors, or in / for a folder")
    return str(path) + ("/" if output.endswith("/") else "")


def _explain(path: Path, document: Document, error: ValidationError) -> list[str]:
    """Return a line for each mistake in a job file, with its place."""
    lines = []
    for mistake in error.errors():
        place = mistake["loc"]
        while place not in document.lines:
            place = place[:-1]
        where = ".".join(map(str, mistake["loc"]))
        lines.append(f"{path}:{document.lines[place]}: {where}: {mistake['msg'].lower()}")
    return lines
