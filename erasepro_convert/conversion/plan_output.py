"""What a conversion writes, planned while the erasure still runs."""

from collections.abc import Iterator
from functools import partial

from erasepro_convert.checkpoint.single_pass import SinglePass
from erasepro_convert.conversion.background_erasure import BackgroundErasure
from erasepro_convert.conversion.build_manifest import provenance
from erasepro_convert.conversion.preflight import Conversion
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.manifest.safetensors_metadata import output_metadata
from erasepro_convert.output.output_tensors import output_tensors
from erasepro_convert.output.safetensors_writer import OutputTensor
from erasepro_convert.output.write_plan import WritePlan, plan_files
from erasepro_convert.sd1.keys import POSITION_IDS, UNET
from erasepro_convert.sd1.unet import ema_name
from erasepro_convert.storage.location import checkpoint_stem, file_name


def plan_output(
    conversion: Conversion, reading: SinglePass, erasure: BackgroundErasure
) -> WritePlan:
    """Return the files to write; ``reading`` learns what will be read, and in which order.

    It waits for the erasure only where the metadata have to say what came of it.  Raises
    CheckpointError where no loader would read the header of a weight file.
    """
    base, options = conversion.base, conversion.options
    edits = {name: partial(erasure.weight, name) for name in _edited_names(conversion)}
    tensors = output_tensors(base, reading.chunks, options.dtype, edits)
    by_file, configurations, left_out = _files(conversion, tensors)
    embedded = None
    if options.embed_manifest:  # the digests of the input go into the header, before all else
        hashes = reading.hashes()
        embedded = provenance(conversion, erasure.result(), hashes)
    recipe = conversion.recipe
    if recipe.asks_for_synonyms:
        recipe = erasure.result().main.recipe
    metadata = output_metadata(
        base.metadata,
        recipe,
        base.layout.variant,
        base=checkpoint_stem(file_name(conversion.source)),
        private=options.private,
        embedded=embedded,
        thumbnail=conversion.thumbnail,
    )
    plan = plan_files(file_name(conversion.target), by_file, configurations, metadata, left_out)
    written = [tensor for file in plan.weights.values() for tensor in file.ordered]
    copied = [tensor.original[0] for tensor in written if not tensor.is_late]
    stored = base.layout.source
    reading.expect(
        [stored[name] for name in copied if name != POSITION_IDS], [stored[name] for name in edits]
    )
    return plan


def _edited_names(conversion: Conversion) -> Iterator[str]:
    layout = conversion.base.layout
    for name in edited_tensors(conversion.recipe, layout.widths):
        yield name
        if layout.ema == "convert" and name.startswith(UNET):
            yield ema_name(name)


def _files(
    conversion: Conversion, tensors: list[OutputTensor]
) -> tuple[dict[str, list[OutputTensor]], dict[str, bytes], dict[str, str]]:
    """Return tensors by weight file, configurations, and why some tensors have no place."""
    if not conversion.options.folder:
        return {file_name(conversion.target): tensors}, {}, {}
    from erasepro_convert.output.diffusers_folder import by_file, configurations

    base = conversion.base
    layout = base.layout
    weights, left_out = by_file(tensors, layout.widths)
    clip_skip = base.statements.clip_skip or 1
    contents = configurations(layout.widths, layout.variant, base.scheduler, clip_skip)
    return weights, contents, left_out
