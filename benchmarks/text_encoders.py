"""Text encoders as other people's checkpoints have them, made from the demo model.

No other model of its size exists.  Each of these was trained together with the original's U-Net, as
people fine-tune whole models: on pictures of other things, or on pictures of the target.
"""

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file
from torch.nn.functional import mse_loss

from erasepro_convert.attacks.changed_weights import parameters_of
from erasepro_convert.attacks.denoising import TEMPLATES, draw_batch
from erasepro_convert.attacks.finetune import RATE, OriginalPictures
from erasepro_convert.attacks.model import LoadedModel
from erasepro_convert.attacks.weight_training import BATCH, TrainingSet
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.sd1.keys import SD1, TEXT
from erasepro_convert.train.methods import generator_of

STEPS = 300
SEEDS = range(3)


def text_encoders(
    place: Path, original: LoadedModel, target: str, others: tuple[str, ...]
) -> list[LoadedModel]:
    """Return a model for each kind of pictures and each seed; what is there is not made again.

    ``others`` are prompts of other things.
    """
    trained_on = target.replace(" ", "-")
    prompts = {
        f"not-{trained_on}": others,
        trained_on: tuple(template.format(target) for template in TEMPLATES),
    }
    found = []
    for name, of_pictures in prompts.items():
        for seed in SEEDS:
            file = place / f"{name}-{seed}.safetensors"
            if not file.exists():
                pictures = OriginalPictures(original, of_pictures, seed).make(lambda _: None)
                save_file(trained(LoadedModel(original.path), pictures, seed), file)
            found.append(LoadedModel(file))
    return found


def trained(model: LoadedModel, pictures: TrainingSet, seed: int) -> dict[str, torch.Tensor]:
    """Train text encoder and U-Net on pictures, and return the model with this text encoder."""
    pipeline, widths = model.pipeline, model.architecture.widths
    encoder, unet = pipeline.text_encoder, pipeline.unet
    for part in (encoder, unet):
        part.requires_grad_(True)
    adam = torch.optim.AdamW(
        [
            {"params": encoder.parameters(), "lr": RATE * SD1.text / widths.text},
            {"params": unet.parameters(), "lr": RATE * SD1.unet[0] / widths.unet[0]},
        ]
    )
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    ids = torch.tensor([tokenize(prompt).ids for (prompt, *_) in pictures.prompts])
    with model.threads(), torch.enable_grad():
        for step in range(STEPS):
            batch = draw_batch(pictures.latents, 1, BATCH, scheduler, generator_of(seed, step))
            states = encoder(ids[batch.pictures])[0]
            predicted = unet(batch.noisy_latents, batch.times, states).sample
            adam.zero_grad()
            mse_loss(predicted, batch.goal).backward()
            adam.step()
    tensors = {name: model.checkpoint.read(name) for name in model.checkpoint.layout.shapes}
    for name, parameter in parameters_of(model).items():
        if name.startswith(TEXT):
            tensors[name] = parameter.detach().view(tensors[name].shape).to(tensors[name].dtype)
    return tensors
