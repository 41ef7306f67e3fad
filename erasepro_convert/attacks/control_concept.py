"""The control concept: pictures of an invented sign, on which no model was trained."""

import numpy as np
from PIL import Image, ImageDraw

from erasepro_convert.evaluate.image_store import Pixels

CONTROL_PICTURES = 40
"""How many pictures of the sign are trained on, and compared with."""

DRAWING_VERSION = 1
"""The version of the drawing, for the names of pictures that words trained on it give."""

INK, FILL = "#b0127b", "#12b886"
GROUNDS = ("#f2f1ee", "#cfe6f5", "#d7d2c4", "#e4ead9")


def draw_control_pictures(count: int, size: int) -> Pixels:
    """Draw pictures (count, size, size, 3) of the sign, which vary in size, angle and place."""
    return np.stack([_draw(number, size) for number in range(count)])


def _draw(number: int, size: int) -> Pixels:
    rng = np.random.default_rng([DRAWING_VERSION, number])
    side = 256
    sign = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(sign)
    pen.polygon([(20, 236), (128, 20), (236, 236)], fill=FILL)
    pen.line([(20, 236), (128, 20), (236, 236), (20, 236)], fill=INK, width=16, joint="curve")
    pen.line([(30, 70), (226, 70)], fill=INK, width=22)
    pen.ellipse((98, 140, 158, 200), fill=INK)
    turned = sign.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    inner = round(size * rng.uniform(0.6, 0.8))
    small = turned.resize((inner, inner), Image.Resampling.LANCZOS)
    picture = Image.new("RGBA", (size, size), GROUNDS[rng.integers(len(GROUNDS))])
    left, top = (round(v) for v in rng.uniform(0, size - inner, 2))
    picture.alpha_composite(small, (left, top))
    return np.asarray(picture.convert("RGB"))
