"""The pictures that words and LoRAs are trained on: of the target, or of the control sign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from erasepro_convert.attacks.case import AttackContext
from erasepro_convert.attacks.control_concept import (
    CONTROL_PICTURES,
    DRAWING_VERSION,
    draw_control_pictures,
)
from erasepro_convert.evaluate.image_store import Pixels, load_pixels


@dataclass(frozen=True)
class TrainingPictures:
    """Pictures that are loaded when they are needed; ``named`` says which, for digests."""

    named: Sequence[object]
    load: Callable[[], Pixels]


def target_pictures(context: AttackContext) -> TrainingPictures:
    """Return the original model's pictures of the target."""
    names = [path.name for path in context.pictures]
    return TrainingPictures(names, partial(load_pixels, context.pictures))


def sign_pictures(context: AttackContext) -> TrainingPictures:
    """Return pictures of the control sign."""
    draw = partial(draw_control_pictures, CONTROL_PICTURES, context.original.architecture.size)
    return TrainingPictures(["sign", DRAWING_VERSION, CONTROL_PICTURES], draw)
