"""Who is asked for pictures: a checkpoint as it is, or after something was done to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.evaluate.image_store import digest_of
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.sd1.architecture import Architecture, architecture_of
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint

Advance = Callable[[int], None]
"""Gets the amount of work done since its last call, in denoising steps of one picture."""


@dataclass(frozen=True)
class Ready:
    """What draws; ``embed`` makes the text features of prompts where the pipeline does not."""

    pipeline: StableDiffusionPipeline
    embed: Callable[[Sequence[str]], Tensor] | None = None


@dataclass(frozen=True)
class ModelVariant:
    """Who is asked.

    ``identity`` is all that its pictures depend on beside prompt, seed and settings; ``ready`` does
    what is to be done to it, for a while; ``effort`` is how much work that is.
    """

    identity: str
    ready: Callable[[Advance], AbstractContextManager[Ready]]
    effort: int = 0


@dataclass(frozen=True)
class PromptSet:
    """What somebody is asked: a prompt for each of the prompts that it was made from."""

    subject: ModelVariant
    prompts: Mapping[str, str]


class Model:
    """A checkpoint, which is read when it is first needed."""

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError for a file that is not SD1.x, or has unknown widths."""
        self.path = path
        self.digest = digest_of(path)

    @cached_property
    def source(self) -> SD1Checkpoint:
        """Its tensors."""
        return open_sd1_checkpoint(self.path)

    @cached_property
    def architecture(self) -> Architecture:
        """Its configuration."""
        return architecture_of(self.source.layout.widths)

    @cached_property
    def pipeline(self) -> StableDiffusionPipeline:
        """What draws with it."""
        return load_pipeline(self.path)[0]

    @cached_property
    def subject(self) -> ModelVariant:
        """As it is; pictures are those of an evaluation."""

        @contextmanager
        def ready(_: Advance) -> Iterator[Ready]:
            yield Ready(self.pipeline)

        return ModelVariant(self.digest, ready)
