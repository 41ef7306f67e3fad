"""Pictures of sittings, each made once and kept in the album of evaluations."""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from erasepro_convert.attacks.model import ModelVariant, PromptSet
from erasepro_convert.evaluate.drawing import draw, missing
from erasepro_convert.evaluate.image_store import ImageStore, Settings
from erasepro_convert.evaluate.plan import ImageRequest
from erasepro_convert.sd1.architecture import Architecture


class Studio:
    """Draws with settings; ``progress`` gets what is at work and denoising steps of it."""

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        seeds: int,
        album: ImageStore,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._architecture = architecture
        self._settings = settings
        self._seeds = seeds
        self._album = album
        self._progress = progress

    def paths(self, sitting: PromptSet) -> dict[str, list[Path]]:
        """Where the pictures of a sitting lie, by the prompts that it was made from."""
        return {
            owner: [self._path(sitting.subject, shot) for shot in self._shots(prompt)]
            for owner, prompt in sitting.prompts.items()
        }

    def draw(self, sittings: Iterable[PromptSet]) -> None:
        """Make what is missing, subject by subject in the order of their first sitting."""
        wanted: dict[str, dict[ImageRequest, Path]] = {}
        subjects: dict[str, ModelVariant] = {}
        for sitting in sittings:
            subject = subjects.setdefault(sitting.subject.identity, sitting.subject)
            wanted.setdefault(subject.identity, {}).update(
                (shot, self._path(subject, shot))
                for prompt in sitting.prompts.values()
                for shot in self._shots(prompt)
            )
        total = 0
        for name, shots in wanted.items():
            if parts := missing(shots, self._architecture):
                total += subjects[name].effort + self._settings.steps * sum(map(len, parts))
        done, lock = 0, Lock()

        def advance(steps: int) -> None:
            nonlocal done
            with lock:
                done += steps
                # the sampler may take a step more than asked
                self._progress("drawing", done, max(done, total))

        for name, shots in wanted.items():
            if missing(shots, self._architecture):
                with subjects[name].ready(advance) as ready:
                    draw(
                        ready.pipeline, self._architecture, shots, self._settings, self._album,
                        advance, ready.embed,
                    )  # fmt: skip

    def _shots(self, prompt: str) -> list[ImageRequest]:
        return [ImageRequest(prompt, seed, self._settings.guidance) for seed in range(self._seeds)]

    def _path(self, subject: ModelVariant, shot: ImageRequest) -> Path:
        return self._album.path(subject.identity, shot, self._settings)
