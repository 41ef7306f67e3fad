"""Everything that is decided, and refused, before any work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from erasepro_convert.conversion.options import Options
from erasepro_convert.erase.targets import edited_tensors
from erasepro_convert.errors import UsageError
from erasepro_convert.library import recipe_files
from erasepro_convert.manifest import ClipSkipFrom, manifest_path
from erasepro_convert.manifest.signature import Sign, require_key, signature_path, signer
from erasepro_convert.output.destinations import (
    Inputs,
    require_absent,
    require_parent,
    require_place,
)
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.sd1.kohya import kohya_names
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import (
    WRITABLE,
    Location,
    file_name,
    is_within,
    locate,
    redacted,
    url_scheme,
)


@dataclass(frozen=True)
class Conversion:
    """One conversion that has passed every check that can be made before work.

    ``recipe`` has the ways in which this checkpoint's U-Net is fed, which ``clip_skip_from`` gives
    the origin of.  ``base`` is the open checkpoint at ``source``.  ``inputs`` are the files that
    must never be replaced.  ``training_state`` is where a training keeps what it needs to go on;
    None where nothing is trained or written.  ``thumbnail`` is a ``data:`` URI.
    """

    recipe: Recipe
    source: Location
    target: Location
    options: Options
    base: SD1Checkpoint
    clip_skip_from: ClipSkipFrom
    inputs: Inputs
    training_state: Path | None
    sign: Sign | None
    thumbnail: str | None

    def require_outputs_apart(self) -> None:
        """Look once more whether an output is a file that is read: names can have moved.

        Raises UsageError.
        """
        self.inputs.require_apart(*outputs_of(self.target, self.options))


def prepare(
    recipe: Recipe | Path | str,
    source: "Location | str",
    target: "Location | str",
    options: Options,
) -> Conversion:
    """Check what is asked for, and open the checkpoint.

    Strings are paths or URLs; a ``target`` in a string that ends in a slash is a folder.

    Raises UsageError for paths and options that do not work out, RecipeError for a recipe that is
    none, CheckpointError for a file that is not a sound SD1.x checkpoint, StorageError when a
    store fails.
    """
    if not isinstance(recipe, Recipe):
        options = replace(options, beside=(*options.beside, *recipe_files(recipe)))
        recipe = load_recipe(recipe)
    if isinstance(target, str) and target.endswith("/"):
        options = replace(options, folder=True)
    source, target = locate(source), locate(target)
    training_state = _training_state(recipe, target, options)
    inputs = require_workable(source, target, options, training_state)
    sign = signer(options.sign, options.certificate, options.chain) if options.sign else None
    thumbnail = _thumbnail(options)
    base = open_sd1_checkpoint(source, options.ema, options.text_encoder)
    if options.lora:
        _require_lora_holds(recipe, base)
    recipe, clip_skip_from = _with_clip_skip(recipe, base, options.clip_skip)
    return Conversion(
        recipe, source, target, options, base, clip_skip_from, inputs, training_state, sign,
        thumbnail,
    )  # fmt: skip


def _thumbnail(options: Options) -> str | None:
    """Read the picture that UIs are to show.  Raises UsageError."""
    if options.thumbnail is None:
        return None
    from erasepro_convert.images.thumbnail import read_thumbnail  # it takes Pillow

    return read_thumbnail(options.thumbnail)


def _training_state(recipe: Recipe, target: Location, options: Options) -> Path | None:
    """Raise UsageError for options that training has no answer to."""
    if not recipe.training:
        return None
    if options.ema == "convert":
        raise UsageError(f"{recipe.method} is trained: it edits no EMA copy; --ema drop or use")
    if options.dry_run or not isinstance(target, Path):
        return None
    from erasepro_convert.train.resume import state_path

    return state_path(target)


def _require_lora_holds(recipe: Recipe, base: SD1Checkpoint) -> None:
    """Raise UsageError for changes that a LoRA of matrices has no place for."""
    if base.layout.ema == "use":
        raise UsageError("--ema use takes another U-Net than UIs take from IN: no LoRA holds that")
    others = set(edited_tensors(recipe, base.layout.widths)) - kohya_names().keys()
    if others and recipe.training:
        biases = all(name.endswith(".bias") for name in others)
        raise UsageError(
            f"{recipe.method} with parameters: {recipe.training.parameters} trains "
            f"{'biases' if biases else 'biases, norms and convolutions'} too, and the LoRA holds "
            "matrices alone: leave out --lora, or train cross-attention-kv"
        )


def _with_clip_skip(
    recipe: Recipe, base: SD1Checkpoint, asked: int | None
) -> tuple[Recipe, ClipSkipFrom]:
    """Return the recipe for the ways in which this U-Net is fed, and what says so.

    The checkpoint's metadata add their way to the recipe's: a UI may follow either.
    """
    if asked is not None:
        return recipe.changed(clip_skip=[asked]), "command line"
    stated = base.statements.clip_skip
    if stated is None or stated in recipe.clip_skip:
        return recipe, "recipe"
    return recipe.changed(clip_skip=sorted({*recipe.clip_skip, stated})), "metadata"


def outputs_of(target: Location, options: Options) -> tuple[Location, ...]:
    """Return what a conversion writes: checkpoint and manifest; signature and LoRA if asked for."""
    signature = (signature_path(target, folder=options.folder),) if options.sign else ()
    lora = (options.lora,) if options.lora else ()
    return (target, manifest_path(target, folder=options.folder), *signature, *lora)


def require_workable(
    source: Location, target: Location, options: Options, state: Path | None = None
) -> Inputs:
    """Refuse before any work what could only fail after it; give what must never be replaced.

    ``state`` is where a training keeps what it needs to go on.  Raises UsageError.
    """
    _require_consistent(target, options)
    for path in (source, *([options.text_encoder] if options.text_encoder else [])):
        if not exists(path):
            raise UsageError(f"{redacted(path)}: there is no such file")
    if not isinstance(target, Path):
        _require_writable(target, options)
    inputs = Inputs((source, *options.read))
    kept = [state] if state else []
    inputs.require_apart(*outputs_of(target, options), *kept)
    if options.lora:
        _check_lora(options.lora, target, options, kept)
    if not options.dry_run:
        if isinstance(target, Path):
            _check_place(target, options)
        else:
            _check_objects(target, options)
    return inputs


def _require_consistent(target: Location, options: Options) -> None:
    """Refuse options that contradict each other or the output's kind."""
    if options.folder and options.ema == "convert":
        raise UsageError("a diffusers folder has no place for an EMA copy: --ema drop or use")
    require_key(options.sign, options.certificate, options.chain)
    if options.thumbnail and options.folder:
        raise UsageError("a diffusers folder has no place for a picture: leave out --thumbnail")
    if options.embed_manifest and options.private:
        raise UsageError("--embed-manifest holds the recipe's words, which --private keeps out")
    if not options.folder and PurePath(file_name(target)).suffix != ".safetensors":
        raise UsageError(
            f"{redacted(target)}: the output's name must end in .safetensors (UIs go by it), "
            "or in / for a diffusers folder"
        )
    if options.lora_rank is not None and not options.lora:
        raise UsageError("--lora-rank goes with --lora")


def _check_lora(lora: Path, target: Location, options: Options, kept: Sequence[Path]) -> None:
    """Refuse a place for the LoRA that is none, or is one of another output's."""
    if not isinstance(target, Path):
        raise UsageError("--lora is for an output that is here: write it here, then upload both")
    if lora.suffix != ".safetensors":
        raise UsageError(f"{lora}: the name of a LoRA must end in .safetensors (loaders go by it)")
    others = [target, manifest_path(target, folder=options.folder), *kept]
    if options.sign:
        others.append(signature_path(target, folder=options.folder))
    if os.path.realpath(lora) in map(os.path.realpath, others):
        raise UsageError(f"{lora}: two outputs cannot be one file; give the LoRA another name")
    if options.folder and is_within(lora, target):
        raise UsageError(f"{lora}: this lies in OUT; give the LoRA a place beside the folder")
    if options.dry_run:
        return
    require_place(lora)
    if os.path.lexists(lora) and not options.force:
        raise UsageError(f"{lora}: exists already; --force replaces it")


def require_store(target: Location) -> None:
    """Refuse a URL that cannot be written to.  Raises UsageError."""
    if url_scheme(target) not in WRITABLE:
        raise UsageError(f"{redacted(target)}: only s3:// and gs:// can be written to")


def _require_writable(target: Location, options: Options) -> None:
    """Refuse what no store, or not this one, can take."""
    require_store(target)
    if options.folder:
        raise UsageError(
            f"{redacted(target)}: no store takes a folder in one step: write one file "
            "(.safetensors), or a folder here"
        )
    if options.sign:
        raise UsageError("--sign is for an output that is here: fetch it, then sign it")


def _check_objects(target: Location, options: Options) -> None:
    signature = signature_path(target)
    if exists(signature):
        raise UsageError(f"{redacted(signature)}: signs an output of before; remove it")
    for path in (target, manifest_path(target)):
        require_absent(path, force=options.force)


def _check_place(target: Path, options: Options) -> None:
    require_parent(target)
    if options.folder:
        _check_folder(target)
        return
    signature = signature_path(target)
    if signature.exists() and not options.sign:
        raise UsageError(f"{signature}: signs an output of before; remove it, or --sign this one")
    if target.is_dir():
        raise UsageError(
            f"{target}: this is a folder; name a file in it, or end OUT in / for a diffusers folder"
        )
    for path in (target, manifest_path(target), *([signature] if options.sign else [])):
        require_place(path)
        require_absent(path, force=options.force)


def _check_folder(target: Path) -> None:
    if target.is_file():
        raise UsageError(
            f"{target}/: this is a file, and OUT that ends in / is to be a diffusers folder; "
            "leave out the /, or give another name"
        )
    is_empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if os.path.lexists(target) and not is_empty:
        raise UsageError(f"{target}: exists already; remove it first, a folder is not replaced")
