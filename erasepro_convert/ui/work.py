"""The work behind each button: calls of the public interface, put together."""

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import erasepro_convert as erasepro
from erasepro_convert.errors import RecipeError, UsageError, describe_error
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.release import DOCUMENTS
from erasepro_convert.ui.request import Request, recipe_place


@dataclass(frozen=True)
class Pictures:
    """A PNG of pictures before and after, and the prompts that they show."""

    png: bytes
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Seconds:
    """About how long it takes to draw pictures."""

    count: float


@dataclass(frozen=True)
class Written:
    """A release: its manifest, where it lies, and the documents beside it by their title.

    ``missing`` says of each document that could not be written why.
    """

    manifest: erasepro.Manifest
    output: Path
    documents: dict[str, Path]
    missing: dict[str, str]


def try_out(folders: Folders, request: Request, progress: Progress) -> erasepro.Manifest:
    """Do everything but write."""
    source = folders.to_read(request.checkpoint)
    target = source.with_name(f"{source.stem}-erased.safetensors")  # which nothing is written to
    options = erasepro.Options(dry_run=True)
    return erasepro.convert(request.recipe(folders), source, target, options, progress)


def draw(folders: Folders, request: Request, progress: Progress) -> Pictures:
    """Draw before and after, with a checkpoint that is removed again; it need not hold."""
    source, recipe = folders.to_read(request.checkpoint), request.recipe(folders)
    shown = recipe.changed(limits={"leak": None, "drift": None, "relative_update": None})
    place = folders.to_write(request.output or request.suggested_output()).parent
    with tempfile.TemporaryDirectory(prefix=".erasepro-", dir=place) as scratch:
        erased = Path(scratch, "after.safetensors")
        erasepro.convert(shown, source, erased, erasepro.Options(), progress)
        drawn = erasepro.preview(
            recipe, [source, erased], progress=lambda _, done, total: progress("draw", done, total)
        )
    png = io.BytesIO()
    drawn.image().save(png, "PNG")
    return Pictures(png.getvalue(), tuple(prompt.prompt for prompt in drawn.prompts))


def draw_or_time(folders: Folders, request: Request, progress: Progress) -> Pictures | Seconds:
    """Draw before and after where that takes seconds; elsewhere say about how many it takes."""
    source, recipe = folders.to_read(request.checkpoint), request.recipe(folders)
    if erasepro.plan_preview(recipe, source).is_quick:
        return draw(folders, request, progress)
    each = erasepro.time_preview(
        recipe, source, progress=lambda _, done, total: progress("time", done, total)
    )
    return Seconds(2 * each)


def write(folders: Folders, request: Request, progress: Progress) -> Written:
    """Write the release and the documents beside it, of which some may fail."""
    source, output = folders.to_read(request.checkpoint), folders.to_write(request.output)
    options = erasepro.Options(
        force=request.replace,
        thumbnail=folders.to_read(request.thumbnail) if request.thumbnail.strip() else None,
        lora=folders.to_write(request.lora) if request.lora.strip() else None,
    )
    manifest = erasepro.convert(request.recipe(folders), source, output, options, progress)
    # Nothing asks here whether the job was cancelled: a release has its documents.
    documents, missing = dict[str, Path](), dict[str, str]()
    for document in DOCUMENTS:
        try:
            documents[document.title] = document.write(output, force=request.replace)
        except Exception as error:  # whatever it is, the checkpoint is there
            missing[document.title] = describe_error(error)
    return Written(manifest, output, documents, missing)


def require_free(folders: Folders, request: Request) -> None:
    """Raise UsageError for an output elsewhere, and for a document that would be replaced."""
    output = folders.to_write(request.output)
    for document in DOCUMENTS:
        place = document.place(output)
        if place.exists() and not request.replace:
            raise UsageError(f"{place}: exists already; tick the box to replace it")


def find_words(
    folders: Folders, checkpoint: str, word: str, progress: Progress
) -> erasepro.Neighbours:
    """Find words that mean the same to a checkpoint."""
    return erasepro.suggest(folders.to_read(checkpoint), word, progress=progress)


def verify(
    folders: Folders, output: str, base: str, progress: Progress, *, replay: bool
) -> erasepro.Verified:
    """Hold a release against its manifest, and against its original where there is one."""
    target = folders.to_read(output)
    original = folders.to_read(base) if base.strip() else None
    if replay and original is None:
        raise UsageError("to run the recipe again, choose the original too")
    return erasepro.verify(target, base=original, replay=replay, progress=progress)


def verify_evidence(
    folders: Folders, evidence: str, progress: Progress
) -> erasepro.VerifiedEvidence:
    """Hold evidence against itself, and against its checkpoint where that lies beside it."""
    bundle = folders.to_read(evidence)
    folders.require_inside_beside(bundle)
    return erasepro.verify_evidence(bundle, progress=progress)


def load_recipes(folders: Folders, names: Sequence[str]) -> list[erasepro.Recipe]:
    """Load recipes.  Raises RecipeError for none at all, and for one that is none."""
    if not names:
        raise RecipeError("choose a recipe first")
    return [erasepro.load_recipe(recipe_place(folders, name)) for name in names]


def run_batch(
    folders: Folders,
    recipes: Sequence[str],
    inputs: Sequence[str],
    folder: str,
    outcomes: list[erasepro.Entry],
    progress: Progress,
) -> None:
    """Convert a batch, one file after the other; ``outcomes`` grows meanwhile."""
    erasepro.convert_batch(
        [recipe_place(folders, name) for name in recipes],
        [folders.to_read(path) for path in inputs],
        folders.folder_to_write(folder),
        progress=progress,
        ended=outcomes.append,
    )
