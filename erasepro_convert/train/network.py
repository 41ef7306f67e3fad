"""The network that is trained: one U-Net, of which the trained part exists twice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256

import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.runtime.dtypes import packed
from erasepro_convert.sd1.architecture import Architecture

SAMPLING_STEPS = 50
"""Steps of the deterministic sampler that makes latents to train on."""

SAMPLING_GUIDANCE = 3.0
"""The sampler's guidance scale, as in ESD's published code."""


class Network:
    """Noise predictions of a U-Net as it is now, and of the original.

    ``micro_batch_size`` is how many latents fit into memory at once in training.  ``watch`` is
    called before each prediction; what it raises ends the training.

    Predictions of the original come from the same module, into which the original tensors are put
    for a while.  Frozen tensors keep the pipeline's type; trained ones are float32.
    """

    def __init__(
        self,
        pipeline: StableDiffusionPipeline,
        architecture: Architecture,
        names: Sequence[str],
        clip_skip: int = 1,
    ) -> None:
        """``names`` are diffusers' names of the tensors to train.

        ``clip_skip`` says which text layer feeds the U-Net: 1 the last, 2 the one before.
        """
        self._pipeline, self._latent_size = pipeline, architecture.size // 8
        self._clip_skip = clip_skip
        self.watch: Callable[[], None] = lambda: None
        self.micro_batch_size = architecture.batch
        self.device = pipeline.unet.device
        unet = pipeline.unet
        unet.requires_grad_(False)
        if architecture.batch == 1:  # a full-size model's activations fill the memory
            unet.enable_gradient_checkpointing()
        known = dict(unet.named_parameters())
        self.trained = {name: known[name] for name in names}
        for parameter in self.trained.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self._original = [p.detach().clone() for p in self.trained.values()]
        self._states: dict[str, Tensor] = {}

    def digest(self) -> str:
        """Return the SHA-256 of the weights that predictions depend on."""
        digest = sha256()
        for model in (self._pipeline.text_encoder, self._pipeline.unet):
            for parameter in model.parameters():
                digest.update(packed(parameter.detach().cpu()))
        return digest.hexdigest()

    @contextmanager
    def original(self) -> Iterator[None]:
        """Put the original tensors into the U-Net; nothing is recorded for gradients."""
        current = [parameter.data for parameter in self.trained.values()]
        self._set_trained(self._original)
        try:
            with torch.no_grad():
                yield
        finally:
            self._set_trained(current)

    def predict(self, latents: Tensor, times: Tensor, prompts: Sequence[str]) -> Tensor:
        """Predict the noise in latents (n × 4 × s × s) at times (n): float32, of that shape."""
        self.watch()
        states = torch.cat([self.encode(prompt) for prompt in prompts])
        with self._mixed_precision():
            predicted: Tensor = self._pipeline.unet(
                latents.to(self.device, states.dtype), times.to(self.device), states
            ).sample
        return predicted.float()

    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal noise (count × 4 × s × s) on the CPU."""
        return torch.randn(count, 4, self._latent_size, self._latent_size, generator=generator)

    def denoise(self, prompts: Sequence[str], noise: Tensor, last: int) -> tuple[Tensor, int]:
        """Denoise up to the ``last``-th of 50 steps; return the latents and the time there.

        The sampler is DDIM with guidance 3.  Step 50 denoises to the end, at time 0.
        """
        scheduler = DDIMScheduler.from_config(self._pipeline.scheduler.config)
        scheduler.set_timesteps(SAMPLING_STEPS)
        latents = noise * scheduler.init_noise_sigma
        empty = [""] * len(prompts)
        with torch.no_grad():
            for time in scheduler.timesteps[:last]:
                both = scheduler.scale_model_input(torch.cat([latents, latents]), time)
                predicted = self.predict(both, time.expand(len(both)), [*empty, *prompts])
                plain, prompted = predicted.cpu().chunk(2)
                guided = plain + SAMPLING_GUIDANCE * (prompted - plain)
                latents = scheduler.step(guided, time, latents).prev_sample
        return latents, int(scheduler.timesteps[last]) if last < SAMPLING_STEPS else 0

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Add noise to latents by their times, as a diffusion model's training does."""
        scheduler = DDPMScheduler.from_config(self._pipeline.scheduler.config)
        noisy: Tensor = scheduler.add_noise(latents, noise, times)
        return noisy

    @property
    def time_count(self) -> int:
        """The number of times that the model was trained at."""
        return int(self._pipeline.scheduler.config.num_train_timesteps)

    def encode(self, prompt: str) -> Tensor:
        """Return the text encoder's hidden states of a prompt, at the layer that clip skip says."""
        if prompt not in self._states:
            ids = torch.tensor([tokenize(prompt).ids], device=self.device)
            encoder = self._pipeline.text_encoder
            with torch.no_grad():
                layers = encoder(ids, output_hidden_states=True).hidden_states
                norm = getattr(encoder, "text_model", encoder).final_layer_norm
                self._states[prompt] = norm(layers[-self._clip_skip])
        return self._states[prompt]

    def _set_trained(self, tensors: Sequence[Tensor]) -> None:
        """Put tensors into the U-Net in the place of the trained ones."""
        for parameter, tensor in zip(self.trained.values(), tensors, strict=True):
            parameter.data = tensor

    def _mixed_precision(self) -> AbstractContextManager[object]:
        """Mix types on CUDA, where frozen parts are float16, and nowhere else."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.float16)
        return nullcontext()
