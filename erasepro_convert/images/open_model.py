"""A checkpoint that makes pictures, opened once for everything that is read from it."""

from functools import cached_property
from pathlib import Path

from diffusers import StableDiffusionPipeline

from erasepro_convert.images.pipeline import build_pipeline
from erasepro_convert.runtime.hashing import files_digest
from erasepro_convert.sd1.architecture import DEMO, Architecture, architecture_of
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint


class OpenModel:
    """An open checkpoint with its digest, its configuration and, on demand, its pipeline."""

    def __init__(self, path: Path) -> None:
        """Open the checkpoint.  Raises CheckpointError for a file that is not SD1.x."""
        self.path = path
        self.checkpoint = open_sd1_checkpoint(path)

    @cached_property
    def digest(self) -> str:
        """One SHA-256 for all files of the checkpoint."""
        files = self.checkpoint.checkpoint.files
        return files_digest([file.hashes().sha256 for file in files])

    @cached_property
    def architecture(self) -> Architecture:
        """The model's configuration.  Raises CheckpointError for unknown widths."""
        return architecture_of(self.checkpoint.layout.widths)

    @property
    def is_demo(self) -> bool:
        """Whether it is the demo model, whose world has prompts and a judge of its own."""
        return self.architecture.widths == DEMO

    def load_pipeline(self) -> StableDiffusionPipeline:
        """Build a pipeline from the open checkpoint; it is not kept here.

        Raises CheckpointError for a model that makes no pictures.
        """
        return build_pipeline(self.checkpoint)[0]
