"""What a user can ask of a conversion, beside the recipe."""

from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.runtime.dtypes import DtypeOption
from erasepro_convert.runtime.hashing import TENSORS, Algorithm
from erasepro_convert.sd1 import Ema
from erasepro_convert.storage.location import Location


@dataclass(frozen=True)
class Options:
    """What a user can ask for beside the recipe.

    ``dtype`` (fp16, bf16, fp32) changes every floating tensor; ``ema`` says what becomes of an EMA
    copy; ``clip_skip`` replaces the recipe's; ``text_encoder`` is the file that a missing text
    encoder comes from; ``folder`` writes a diffusers folder; ``embed_manifest`` puts what is known
    before writing into the output's metadata, ``private`` keeps the recipe's words out of it;
    ``autov3`` takes that digest of input and output too; ``tensor_digests`` is the algorithm of
    those of tensors; ``sign`` is a private key to sign with, as the holder of ``certificate`` (and
    of the ``chain`` above it) where one is given; ``lora`` is where the same changes go as a LoRA
    (with factors up to ``lora_rank``); ``thumbnail`` is a picture that UIs show, or the ``data:``
    URI of one as a string; ``force`` replaces an existing output; ``dry_run`` does
    everything but write, even where a limit is exceeded.  ``beside`` are files that the caller has
    read, such as the recipe: they are never written, as no input is.
    """

    dtype: DtypeOption | None = None
    ema: Ema = "drop"
    clip_skip: int | None = None
    text_encoder: "Location | None" = None
    folder: bool = False
    embed_manifest: bool = False
    autov3: bool = False
    tensor_digests: Algorithm = TENSORS
    sign: Path | None = None
    certificate: Path | None = None
    chain: tuple[Path, ...] = ()
    lora: Path | None = None
    lora_rank: int | None = None
    private: bool = False
    thumbnail: Path | str | None = None
    force: bool = False
    dry_run: bool = False
    beside: tuple[Path, ...] = ()

    @property
    def read(self) -> "tuple[Location | None, ...]":
        """Every file that is read for these options."""
        picture = self.thumbnail if isinstance(self.thumbnail, Path) else None
        keys = (self.sign, self.certificate, *self.chain)
        return (self.text_encoder, *keys, picture, *self.beside)
