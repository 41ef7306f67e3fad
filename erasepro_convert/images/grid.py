"""A grid of pictures: each row has a prompt, each column a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

INK, FAINT, PAPER = "#1c1c1c", "#6a6a6a", "#ffffff"
GAP, TEXT = 6, 15
"""The space between things and the height of a text, in pixels."""
SMALLEST = 96
"""Pictures smaller than this are enlarged, so that people can see what is in them."""


@dataclass(frozen=True)
class GridRow:
    """A prompt with the pictures of each column: (n, 3, size, size), uint8."""

    prompt: str
    group: str
    columns: Sequence[Tensor]


def grid(headings: Sequence[str], rows: Sequence[GridRow]) -> Image.Image:
    """Draw rows under the headings, with the name of each group above its first row."""
    count, _, _, size = rows[0].columns[0].shape
    side = max(size, SMALLEST)
    font = ImageFont.load_default(TEXT)
    column_width = count * side + (count - 1) * 2 + 2 * GAP
    label_height = TEXT + 2 * GAP
    groups = len({row.group for row in rows})
    width = GAP + column_width * len(headings)
    height = (1 + len(rows) + groups) * label_height + len(rows) * side + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, heading in enumerate(headings):
        text = truncate(heading, font, column_width - 2 * GAP)
        pen.text((2 * GAP + i * column_width, GAP), text, fill=INK, font=font)
    y, group = label_height, None
    for row in rows:
        if row.group != group:
            group = row.group
            pen.line((GAP, y + 2, width - GAP, y + 2), fill="#cccccc")
            pen.text((2 * GAP, y + GAP), group, fill=INK, font=font)
            y += label_height
        text = truncate(
            f"“{row.prompt}”" if row.prompt else "the empty prompt", font, width - 4 * GAP
        )
        pen.text((2 * GAP, y), text, fill=FAINT, font=font)
        y += TEXT + GAP
        for i, pictures in enumerate(row.columns):
            for j, picture in enumerate(pictures):
                x = 2 * GAP + i * column_width + j * (side + 2)
                sheet.paste(
                    to_image(picture).resize((side, side), Image.Resampling.BICUBIC), (x, y)
                )
        y += side + GAP
    return sheet


def to_png(sheet: Image.Image) -> bytes:
    """Encode a picture as the content of a PNG file."""
    content = BytesIO()
    sheet.save(content, "png")
    return content.getvalue()


def to_image(picture: Tensor) -> Image.Image:
    """Turn a (3, size, size) uint8 tensor into a PIL image."""
    return Image.fromarray(picture.permute(1, 2, 0).to(torch.uint8).numpy())


def truncate(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten a text to a width in pixels, with an ellipsis where something is cut off."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
