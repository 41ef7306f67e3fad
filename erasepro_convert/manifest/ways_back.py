"""What no edit of weights holds: known ways in which an erased concept can come back."""

from erasepro_convert.manifest.fields import Record


class WayBack(Record):
    """A way in which a target can come back, whatever the measures of a release say."""

    name: str
    description: str


WAYS_BACK = (
    WayBack(
        name="merging with the original",
        description="A weighted sum with the checkpoint before erasure has the target again, the "
        "more so the larger the share of that checkpoint is.",
    ),
    WayBack(
        name="training on the target",
        description="A LoRA, a textual inversion or a fine-tuning on pictures of the target can "
        "teach the model to draw it again; so can LoRAs and embeddings that exist already.",
    ),
    WayBack(
        name="features derived from both U-Nets",
        description="Whoever has the checkpoint before erasure can compute features that give the "
        "erased U-Net what the target gave it, and feed them in place of the text encoder's.",
    ),
    WayBack(
        name="words that the recipe does not name",
        description="Descriptions, names and symbols that mean the target without any word of the "
        "recipe may still lead to it.",
    ),
    WayBack(
        name="pictures as input",
        description="Image prompts, image-to-image and inpainting bring the target in as pixels.",
    ),
    WayBack(
        name="parts of other models",
        description="Another U-Net or another text encoder in the place of this one undoes what "
        "was erased from the part that it replaces.",
    ),
)
"""``docs/stress.md`` has what each of them came to on the demo model."""
