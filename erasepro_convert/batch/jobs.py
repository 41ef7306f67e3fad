"""What a batch is to do: a recipe, an input and an output for each job."""

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
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.recipe.yaml_document import Document, read_document
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.location import Location, file_name, locate, redacted

NAME = "{folder}/{stem}-{recipe}.safetensors"
"""An output's name, unless the user says otherwise."""
LONGEST_PATH = 4096
SHOWN = 5
"""Clashes that a message lists."""


@dataclass(frozen=True)
class Job:
    """One conversion.

    ``output`` is what it is called: a path below the output folder, with a slash at the end where
    it is to be a diffusers folder.  ``recipe_file`` is where the recipe was read.
    """

    recipe: Recipe
    source: Location
    output: str
    recipe_file: Path | None = None

    @property
    def name(self) -> str:
        """The output's name without a slash at the end."""
        return self.output.rstrip("/")

    def options(self, options: Options) -> Options:
        """The batch's options, as this job has them."""
        return replace(options, folder=self.output.endswith("/"))

    def outputs(self, folder: Location, options: Options) -> tuple[Location, ...]:
        """All that the job writes, in the output folder ``folder``."""
        return outputs_of(folder / self.output, self.options(options))


@dataclass(frozen=True)
class Named:
    """A recipe, what its file is called, without the suffix, and the file."""

    name: str
    recipe: Recipe
    file: Path | None = None


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
        Job(named.recipe, one.path, _filled(template, one.path, one.below, named.name), named.file)
        for one in inputs
        for named in recipes
    ]


def read_given(path: Path, template: str) -> Named | list[Job]:
    """A recipe, or the jobs of a file that has the key ``jobs``.

    Paths in it are relative to the file.  Raises RecipeError with the line of each mistake.
    """
    document = read_document(path)
    if not isinstance(document.data, dict) or "jobs" not in document.data:
        return Named(path.stem, load_recipe(path), path)
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
        recipe_file = path.parent / pair.recipe
        jobs.append(Job(recipes[pair.recipe], source, _normal(output), recipe_file))
    return jobs


def require_distinct(jobs: Iterable[Job], *, caseless: bool = False) -> None:
    """Raise UsageError where two jobs would write the same output, or one inside another.

    ``caseless`` is for a folder in which a name in small and in capital letters is the same file.
    """
    inputs: dict[str, list[str]] = {}
    for job in jobs:
        name = normalize("NFC", job.name.casefold()) if caseless else job.name
        inputs.setdefault(name, []).append(redacted(job.source))
    clashes = [f"{name} (of {' and '.join(of)})" for name, of in inputs.items() if len(of) > 1]
    clashes += [name for name in inputs if inputs.keys() & {*map(str, PurePosixPath(name).parents)}]
    if clashes:
        more = f" and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
        raise UsageError(
            f"several jobs would write {', '.join(clashes[:SHOWN])}{more}; --name gives outputs "
            "other names, such as '{folder}/{stem}.{suffix}-{recipe}.safetensors'"
        )


def require_apart(
    jobs: Sequence[Job], folder: Location, records: Path | None, options: Options
) -> Inputs:
    """All that the batch reads.

    Raises UsageError where a job, or the batch's record, would replace any of it.
    """
    recipes = {job.recipe_file for job in jobs}
    inputs = Inputs([*(job.source for job in jobs), *recipes, *options.read])
    inputs.require_apart(*(place for job in jobs for place in job.outputs(folder, options)))
    inputs.require_apart(*((records or folder) / name for name in (LEDGER, SUMMARY)))
    return inputs


def _filled(template: str, source: Location, below: PurePosixPath, recipe: str) -> str:
    name = PurePosixPath(file_name(source))
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
