"""What the LoRA of a conversion holds, for people."""

from collections.abc import Iterator

from rich.filesize import decimal

from erasepro_convert.manifest import Manifest
from erasepro_convert.runtime.wording import counted


def lora_lines(manifest: Manifest, path: str) -> Iterator[str]:
    """Say where the LoRA lies and how large it is, and what it lacks of the changes."""
    lora = manifest.lora
    assert lora
    facts = f"{decimal(lora.file.size)}, sha256 {lora.file.sha256}"
    yield f"wrote {path} ({facts})" if manifest.output.written else f"{path} would have {facts}"
    loss, matrices = lora.loss, counted(lora.loss.matrices, "matrix", "matrices")
    if loss.exact == loss.matrices:
        yield f"the LoRA (rank up to {loss.rank}) has the changes of all {matrices} to rounding"
    else:
        yield (
            f"the LoRA (rank up to {loss.rank}) lacks {loss.overall:.2%} of the change, of a "
            f"matrix at most {loss.worst:.2%}; it has {loss.exact} of {matrices} to rounding"
        )
