"""Render the emoji that the world is drawn with into one sheet, glyphs.png.

Needs Noto Color Emoji (Debian: fonts-noto-color-emoji; SIL Open Font License 1.1).  The sheet is
checked in, so this runs only when a glyph is added.
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE = 128
SHEET = Path(__file__).with_name("glyphs.png")
# In the order of the sheet.  Names are those of concepts.yaml; "flame" is what burning adds.
GLYPHS = {
    "dog": "🐕",
    "snoopy": "🐶",
    "fish": "🐟",
    "nemo": "🐠",
    "car": "🚗",
    "R2D2": "🤖",
    "girl": "👧",
    "zombie": "🧟",
    "man": "🧔",
    "Trump": "👱",
    "cat": "🐈",
    "cute cat": "🐱",
    "grumpy cat": "😾",
    "Garfield": "🐯",
    "mouse": "🐁",
    "Pikachu": "🐰",
    "toys": "🧸",
    "Minions": "👾",
    "apple": "🍎",
    "house": "🏠",
    "tree": "🌳",
    "mushroom": "🍄",
    "rubber duck": "🐤",
    "ice cream cone": "🍦",
    "flame": "🔥",
}


def render(font_file: str) -> Image.Image:
    """One row of SIZE×SIZE RGBA cells, each glyph cut to its ink and centred."""
    font = ImageFont.truetype(font_file, 109)  # the one size of the font's bitmaps
    sheet = Image.new("RGBA", (SIZE * len(GLYPHS), SIZE))
    for column, glyph in enumerate(GLYPHS.values()):
        cell = Image.new("RGBA", (2 * SIZE, 2 * SIZE))
        ImageDraw.Draw(cell).text((SIZE // 2, SIZE // 2), glyph, font=font, embedded_color=True)
        ink = cell.crop(cell.getbbox())
        ink.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
        left = column * SIZE + (SIZE - ink.width) // 2
        sheet.paste(ink, (left, (SIZE - ink.height) // 2))
    return sheet


if __name__ == "__main__":
    render(sys.argv[1]).save(SHEET, optimize=True)
