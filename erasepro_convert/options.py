"""What a user can ask of a conversion, and whether it can be carried out."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from erasepro_convert.dtypes import Option
from erasepro_convert.errors import UsageError
from erasepro_convert.layout import Ema
from erasepro_convert.manifest import manifest_path
from erasepro_convert.ranges import exists
from erasepro_convert.signature import signature_path
from erasepro_convert.storage import WRITABLE, Location, is_same, name_of, scheme_of, shown

LONGEST_NAME = 230
"""Bytes; what is written beside a target has a longer name, and file systems allow 255."""


@dataclass(frozen=True)
class Options:
    """What a user can ask for beside the recipe.

    ``dtype`` (fp16, bf16, fp32) changes every floating tensor; ``ema`` says what becomes of an EMA
    copy; ``clip_skip`` replaces the recipe's; ``text_encoder`` is the file that a missing text
    encoder comes from; ``folder`` writes a diffusers folder; ``embed_manifest`` puts what is known
    before writing into the output's metadata, ``private`` keeps the recipe's words out of it;
    ``sign`` is a private key to sign with, as the holder of ``certificate`` (and of the ``chain``
    above it) where one is given; ``force`` replaces an existing output; ``dry_run`` does everything
    but write, even where a limit is exceeded; ``tune`` searches for the settings.
    """

    dtype: Option | None = None
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


def require_workable(source: Location, target: Location, options: Options) -> None:
    """Refuse before any work what could only fail after it.  Raises UsageError."""
    if options.folder and options.ema == "convert":
        raise UsageError("a diffusers folder has no place for an EMA copy: --ema drop or use")
    if (options.certificate or options.chain) and not options.sign:
        raise UsageError("--certificate and --chain go with --sign")
    if options.embed_manifest and options.private:
        raise UsageError("--embed-manifest holds the recipe's words, which --private keeps out")
    if not options.folder and PurePath(name_of(target)).suffix != ".safetensors":
        raise UsageError(
            f"{shown(target)}: the output's name must end in .safetensors (UIs go by it), "
            "or in / for a diffusers folder"
        )
    for path in (source, *([options.text_encoder] if options.text_encoder else [])):
        if not exists(path):
            raise UsageError(f"{shown(path)}: there is no such file")
    if not isinstance(target, Path):
        _require_writable(target, options)
    record = manifest_path(target, folder=options.folder)
    for path in (target, record):
        if is_same(path, source):
            raise UsageError(f"{shown(path)}: input and output are the same file")
    if options.dry_run:
        return
    if isinstance(target, Path):
        _check_place(target, options)
    else:
        _check_objects(target, options)


def require_store(target: Location) -> None:
    """Refuse a URL that cannot be written to.  Raises UsageError."""
    if scheme_of(target) not in WRITABLE:
        raise UsageError(f"{shown(target)}: only s3:// and gs:// can be written to")


def _require_writable(target: Location, options: Options) -> None:
    """Refuse what no store, or not this one, can take."""
    require_store(target)
    if options.folder:
        raise UsageError(
            f"{shown(target)}: no store takes a folder in one step: write one file "
            "(.safetensors), or a folder here"
        )
    if options.sign:
        raise UsageError("--sign is for an output that is here: fetch it, then sign it")


def _check_objects(target: Location, options: Options) -> None:
    signature = signature_path(target)
    if exists(signature):
        raise UsageError(f"{shown(signature)}: signs an output of before; remove it")
    for path in () if options.force else (target, manifest_path(target)):
        if exists(path):
            raise UsageError(f"{shown(path)}: exists already; --force replaces it")


def _check_place(target: Path, options: Options) -> None:
    if not os.access(target.parent, os.W_OK) or not target.parent.is_dir():
        raise UsageError(f"{target.parent}: not a folder that can be written to")
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise UsageError(f"{target}: a name of more than {LONGEST_NAME} bytes")
    if options.folder:
        is_empty = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
        if os.path.lexists(target) and not is_empty:
            raise UsageError(f"{target}: exists already; remove it first, a folder is not replaced")
        return
    signature = signature_path(target)
    if signature.exists() and not options.sign:
        raise UsageError(f"{signature}: signs an output of before; remove it, or --sign this one")
    for path in (target, manifest_path(target), *([signature] if options.sign else [])):
        if path.is_dir() or (os.path.lexists(path) and not options.force):
            raise UsageError(f"{path}: exists already; --force replaces it")
