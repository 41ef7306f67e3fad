"""What a user can ask of a conversion, and whether it can be carried out."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from erasepro_convert.errors import UsageError
from erasepro_convert.manifest import manifest_path
from erasepro_convert.manifest.signature import signature_path
from erasepro_convert.output.destinations import Inputs, require_parent, require_place
from erasepro_convert.runtime.dtypes import DtypeOption
from erasepro_convert.sd1 import Ema
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import WRITABLE, Location, file_name, redacted, url_scheme


@dataclass(frozen=True)
class Options:
    """What a user can ask for beside the recipe.

    ``dtype`` (fp16, bf16, fp32) changes every floating tensor; ``ema`` says what becomes of an EMA
    copy; ``clip_skip`` replaces the recipe's; ``text_encoder`` is the file that a missing text
    encoder comes from; ``folder`` writes a diffusers folder; ``embed_manifest`` puts what is known
    before writing into the output's metadata, ``private`` keeps the recipe's words out of it;
    ``sign`` is a private key to sign with, as the holder of ``certificate`` (and of the ``chain``
    above it) where one is given; ``force`` replaces an existing output; ``dry_run`` does everything
    but write, even where a limit is exceeded; ``tune`` searches for the settings.  ``beside`` are
    files that the caller has read, such as the recipe: they are never written, as no input is.
    """

    dtype: DtypeOption | None = None
    ema: Ema = "drop"
    clip_skip: int | None = None
    text_encoder: "Location | None" = None
    folder: bool = False
    embed_manifest: bool = False
    sign: Path | None = None
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()
    private: bool = False
    force: bool = False
    dry_run: bool = False
    tune: bool = False
    beside: tuple[Path, ...] = ()

    @property
    def read(self) -> "tuple[Location | None, ...]":
        """Every file that is read for these options."""
        return (self.text_encoder, self.sign, self.certificate, *self.chain, *self.beside)


def outputs_of(target: Location, options: Options) -> tuple[Location, ...]:
    """What a conversion writes: checkpoint, manifest and, where it is signed, signature."""
    signature = (signature_path(target, folder=options.folder),) if options.sign else ()
    return (target, manifest_path(target, folder=options.folder), *signature)


def require_workable(
    source: Location, target: Location, options: Options, state: Path | None = None
) -> Inputs:
    """Refuse before any work what could only fail after it; give what must never be replaced.

    ``state`` is where a training keeps what it needs to go on.  Raises UsageError.
    """
    if options.folder and options.ema == "convert":
        raise UsageError("a diffusers folder has no place for an EMA copy: --ema drop or use")
    if (options.certificate or options.chain) and not options.sign:
        raise UsageError("--certificate and --chain go with --sign")
    if options.embed_manifest and options.private:
        raise UsageError("--embed-manifest holds the recipe's words, which --private keeps out")
    if not options.folder and PurePath(file_name(target)).suffix != ".safetensors":
        raise UsageError(
            f"{redacted(target)}: the output's name must end in .safetensors (UIs go by it), "
            "or in / for a diffusers folder"
        )
    for path in (source, *([options.text_encoder] if options.text_encoder else [])):
        if not exists(path):
            raise UsageError(f"{redacted(path)}: there is no such file")
    if not isinstance(target, Path):
        _require_writable(target, options)
    inputs = Inputs((source, *options.read))
    inputs.require_apart(*outputs_of(target, options), *([state] if state else []))
    if not options.dry_run:
        if isinstance(target, Path):
            _check_place(target, options)
        else:
            _check_objects(target, options)
    return inputs


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
    for path in () if options.force else (target, manifest_path(target)):
        if exists(path):
            raise UsageError(f"{redacted(path)}: exists already; --force replaces it")


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
        if os.path.lexists(path) and not options.force:
            raise UsageError(f"{path}: exists already; --force replaces it")


def _check_folder(target: Path) -> None:
    if target.is_file():
        raise UsageError(
            f"{target}/: this is a file, and OUT that ends in / is to be a diffusers folder; "
            "leave out the /, or give another name"
        )
    is_empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if os.path.lexists(target) and not is_empty:
        raise UsageError(f"{target}: exists already; remove it first, a folder is not replaced")
