"""Convert one checkpoint: recipe and checkpoint in, erased checkpoint and manifest out."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from erasepro_convert.checkpoint.single_pass import SinglePass
from erasepro_convert.conversion.background_erasure import erasing
from erasepro_convert.conversion.build_manifest import build_manifest
from erasepro_convert.conversion.options import Options
from erasepro_convert.conversion.plan_output import plan_output
from erasepro_convert.conversion.preflight import Conversion, prepare
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import Manifest
from erasepro_convert.output.staging import staging, write
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.runtime.stopwatch import Stopwatch
from erasepro_convert.storage.location import Location


def convert(
    recipe: Recipe | Path | str,
    source: "Location | str",
    target: "Location | str",
    options: Options | None = None,
    progress: Progress = silent,
    *,
    already_erased: frozenset[str] | None = None,
    anew: bool = False,
) -> Manifest:
    """Erase the recipe's concepts from ``source``; write ``target`` and its manifest.

    The recipe is one that was loaded, or a YAML file.  Source and target are paths, or URLs of
    objects in a store; a ``target`` in a string that ends in a slash is a diffusers folder.
    ``progress`` is called from several threads.  ``already_erased`` are targets that were erased
    from ``source`` before (None: that is found out).  ``anew`` takes no edit or measure that an
    earlier run left in the user's cache folder.

    What is not edited is read, checked, hashed and written while the erasure goes on beside it.

    Raises UsageError for paths and options that do not work out, RecipeError for a recipe or
    prompts that do not fit, CheckpointError for a file that is not a sound SD1.x checkpoint,
    LimitError when the result does not hold, StorageError when a store fails.  After any of them
    nothing has been written.
    """
    stopwatch = Stopwatch()
    conversion = prepare(recipe, source, target, options or Options())
    with (
        erasing(conversion, already_erased, progress, anew=anew) as erasure,
        _naming_damage(conversion, progress),
    ):
        asked = conversion.options
        reading = SinglePass(
            conversion.base.checkpoint, partial(progress, "hash"), autov3=asked.autov3
        )
        plan = plan_output(conversion, reading, erasure)
        with staging(
            conversion.target,
            folder=conversion.options.folder,
            dry_run=conversion.options.dry_run,
            sign=conversion.sign,
            lora=asked.lora,
        ) as stage:
            output = write(
                plan,
                stage,
                erasure.guarding(partial(progress, "write")),
                autov3=asked.autov3,
                algorithm=asked.tensor_digests,
            )
            conversion.require_outputs_apart()
            erased, hashes = erasure.result(), reading.hashes()
            lora = None
            if erased.lora:
                from erasepro_convert.conversion.lora import write_lora  # this imports torch

                lora = write_lora(conversion, erased.main.recipe, erased.lora, hashes, stage)
            manifest = build_manifest(
                conversion, erased, hashes, output, plan.left_out, stopwatch, lora
            )
            stage.complete(manifest)
    if conversion.training_state:
        conversion.training_state.unlink(missing_ok=True)
    return manifest


@contextmanager
def _naming_damage(conversion: Conversion, progress: Progress) -> Iterator[None]:
    """Look at all tensors where the block found a damaged one, and name all damaged ones."""
    try:
        yield
    except CheckpointError:
        conversion.base.require_finite(partial(progress, "check"))
        raise
