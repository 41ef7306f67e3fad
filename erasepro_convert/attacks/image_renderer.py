"""Drawing the pictures of prompt sets, which are kept in the image store of evaluations."""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from erasepro_convert.attacks.model import ModelVariant, PromptSet
from erasepro_convert.evaluate.drawing import draw_missing, missing_batches
from erasepro_convert.evaluate.image_store import ImageStore, Settings
from erasepro_convert.evaluate.plan import ImageRequest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.wording import counted
from erasepro_convert.sd1.architecture import Architecture


class ImageRenderer:
    """Draws prompt sets with fixed settings.

    ``announce`` gets one line on what there is to draw before it begins, ``progress`` denoising
    steps done and in all.
    """

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        seeds: int,
        store: ImageStore,
        announce: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._architecture = architecture
        self._settings = settings
        self._seeds = seeds
        self._store = store
        self._announce = announce
        self._progress = progress

    def paths(self, prompt_set: PromptSet) -> dict[str, list[Path]]:
        """Return where the pictures of a prompt set lie, by original prompt."""
        return {
            original: [self._path(prompt_set.variant, r) for r in self._requests(prompt)]
            for original, prompt in prompt_set.prompts.items()
        }

    def draw(self, prompt_sets: Iterable[PromptSet]) -> None:
        """Draw the pictures that do not exist, by variant in the order of their first set."""
        paths_by_variant: dict[str, dict[ImageRequest, Path]] = {}
        variants: dict[str, ModelVariant] = {}
        for prompt_set in prompt_sets:
            variant = variants.setdefault(prompt_set.variant.digest, prompt_set.variant)
            paths_by_variant.setdefault(variant.digest, {}).update(
                (request, self._path(variant, request))
                for prompt in prompt_set.prompts.values()
                for request in self._requests(prompt)
            )
        total = pictures = trainings = 0
        for name, requests in paths_by_variant.items():
            if parts := missing_batches(requests, self._architecture):
                variant, missing = variants[name], sum(map(len, parts))
                steps = max(1, int(self._settings.steps * variant.step_share))
                total += variant.setup_steps + steps * missing
                pictures += missing
                trainings += variant.setup_steps > 0
        if total:
            self._announce(
                f"{counted(pictures, 'picture')} to draw and {counted(trainings, 'training')}: as "
                f"much as {total:,} denoising steps of one picture"
            )
        done, lock = 0, Lock()

        def advance(steps: int) -> None:
            nonlocal done
            with lock:
                done += steps
                # A sampler may take one step more than it was given.
                self._progress("drawing", done, max(done, total))

        for name, requests in paths_by_variant.items():
            if missing_batches(requests, self._architecture):
                with variants[name].prepare(advance) as prepared:
                    draw_missing(
                        prepared.pipeline,
                        self._architecture,
                        requests,
                        self._settings,
                        self._store,
                        advance,
                        prepared.embed,
                        prepared.start,
                    )

    def _requests(self, prompt: str) -> list[ImageRequest]:
        return [ImageRequest(prompt, seed, self._settings.guidance) for seed in range(self._seeds)]

    def _path(self, variant: ModelVariant, request: ImageRequest) -> Path:
        return self._store.path(variant.digest, request, self._settings)
