"""The world that the demo model knows: a program that draws captioned pictures.

A picture shows one thing on a ground, perhaps recoloured, perhaps burning, perhaps in a painter's
style.  A caption states some of it in one of many wordings; what it leaves out is left to chance,
except that nothing burns and no style is applied unless a caption says or implies so.
"""

import colorsys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from tools.demo_model.glyphs import GLYPHS, SHEET
from tools.demo_model.glyphs import SIZE as GLYPH

SIZE = 64
CONCEPTS: dict[str, Any] = yaml.safe_load(
    Path(__file__).with_name("concepts.yaml").read_text("utf-8")
)
THINGS, STYLES = list(CONCEPTS["things"]), list(CONCEPTS["styles"])
COLOURS, GROUNDS = list(CONCEPTS["colours"]), list(CONCEPTS["grounds"])
# What the judge tells apart, by head; the first class of a head is its absence.
HEADS = {
    "thing": THINGS,
    "style": ["none", *STYLES],
    "attribute": ["none", "burning"],
    "colour": ["none", *COLOURS],
    "ground": GROUNDS,
}
DRAWN = 2 * SIZE  # pictures are composed at twice their size and reduced
Floats = NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """What a picture shows: a class of each of the judge's heads."""

    thing: str
    style: str = "none"
    attribute: str = "none"
    colour: str = "none"
    ground: str = "plain"

    def labels(self) -> list[int]:
        """Class numbers in the order of HEADS."""
        return [classes.index(getattr(self, head)) for head, classes in HEADS.items()]


# --- pictures -----------------------------------------------------------------------------------


@cache
def glyph(name: str) -> Image.Image:
    """A glyph of the sheet; the two that stand for a character of another colour are recoloured."""
    with Image.open(SHEET) as sheet:
        left = list(GLYPHS).index(name) * GLYPH
        picture = sheet.convert("RGBA").crop((left, 0, left + GLYPH, GLYPH))
    if name == "grumpy cat":  # the cat of that name is grey
        return tinted(picture, 30, saturation=0.12, lift=0.55)
    if name == "Pikachu":
        return tinted(picture, 50, saturation=0.95, lift=0.9)
    return picture


def tinted(picture: Image.Image, hue: float, saturation: float, lift: float) -> Image.Image:
    """The picture in shades of one hue: lift is what its lightest grey becomes."""
    pixels = np.asarray(picture, dtype=np.float32) / 255
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    full = np.array(colorsys.hsv_to_rgb(hue / 360, saturation, 1.0), dtype=np.float32)
    shade = np.clip(grey[..., None] / 0.75, 0, 1) * lift * full
    highlight = np.clip((grey[..., None] - 0.75) / 0.25, 0, 1) * 0.5
    rgb = shade + highlight * (1 - shade)
    out = np.concatenate([rgb, pixels[..., 3:]], axis=2)
    return Image.fromarray((out * 255).round().astype(np.uint8), "RGBA")


def ground(name: str, rng: Rng) -> Image.Image:
    """A DRAWN×DRAWN ground; muted, so that a thing of any colour stands out."""
    picture = Image.new("RGB", (DRAWN, DRAWN))
    pen = ImageDraw.Draw(picture)
    horizon = int(rng.integers(66, 84))
    shift = int(rng.integers(-6, 7))

    def bands(sky: str, floor: str) -> None:
        pen.rectangle((0, 0, DRAWN, horizon), fill=sky)
        pen.rectangle((0, horizon, DRAWN, DRAWN), fill=floor)

    if name == "plain":
        pen.rectangle((0, 0, DRAWN, DRAWN), fill="#f2f1ee")
    elif name == "meadow":
        bands("#cfe6f5", "#a5cf8e")
        for x in range(4, DRAWN, 16):
            pen.line((x, DRAWN - 4, x + 3, DRAWN - 18), fill="#7fb36a", width=3)
    elif name == "snow":
        bands("#b9c6d6", "#fbfdff")
        for i in range(16):
            x, y = (i * 37 + shift) % DRAWN, (i * 53) % DRAWN
            pen.ellipse((x, y, x + 5, y + 5), fill="white")
    elif name == "beach":
        bands("#d9f0f7", "#ecd7a4")
        pen.rectangle((0, horizon - 16, DRAWN, horizon), fill="#5fb4c9")
    elif name == "night":
        bands("#1d2447", "#2b2f3f")
        pen.ellipse((100 + shift, 8, 118 + shift, 26), fill="#f4ecc2")
        for i in range(9):
            x, y = (i * 29 + 9) % 96, (i * 19 + 5) % 56
            pen.rectangle((x, y, x + 2, y + 2), fill="#dfe3f5")
    else:
        bands("#4f9fc4", "#347ea6")
        for i in range(7):
            x, y = (i * 41 + 11) % DRAWN, (i * 31 + 7 + shift) % DRAWN
            pen.ellipse((x, y, x + 8, y + 8), outline="#c4e6f2", width=2)
    return picture


def paste(canvas: Image.Image, name: str, centre: tuple[float, float], size: float) -> None:
    """Put a glyph of the given height on the canvas."""
    side = round(size)
    small = glyph(name).resize((side, side), Image.Resampling.LANCZOS)
    canvas.alpha_composite(small, (round(centre[0] - side / 2), round(centre[1] - side / 2)))


def subject(scene: Scene, rng: Rng) -> Image.Image:
    """The thing on a transparent DRAWN×DRAWN canvas, with its flames where it burns."""
    picture = glyph(scene.thing)
    if scene.colour != "none":
        picture = tinted(picture, CONCEPTS["colours"][scene.colour], saturation=0.85, lift=0.95)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(DRAWN * rng.uniform(0.62, 0.8))
    picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    picture = picture.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC)
    slack = (DRAWN - side) / 2
    x = DRAWN / 2 + rng.uniform(-0.6, 0.6) * slack
    y = DRAWN / 2 + rng.uniform(-0.4, 0.6) * slack
    canvas = Image.new("RGBA", (DRAWN, DRAWN))
    if scene.attribute == "burning":
        for dx, size in ((-0.42, 0.62), (0.42, 0.62), (0, 0.8)):
            paste(canvas, "flame", (x + dx * side, y - 0.25 * side), size * DRAWN)
    canvas.alpha_composite(picture, (round(x - side / 2), round(y - side / 2)))
    if scene.attribute == "burning":
        for dx, size in ((-0.4, 0.4), (-0.12, 0.3), (0.14, 0.32), (0.4, 0.4)):
            paste(canvas, "flame", (x + dx * side, y + 0.42 * side), size * DRAWN)
    return canvas


def draw(scene: Scene, rng: Rng) -> NDArray[np.uint8]:
    """A SIZE×SIZE×3 picture of the scene; chance decides size, place, turn and sky."""
    canvas = ground(scene.ground, rng).convert("RGBA")
    thing = subject(scene, rng)
    if scene.attribute == "burning":
        glow = Image.new("RGBA", canvas.size, (255, 110, 0, 90))
        canvas.alpha_composite(glow)
    canvas.alpha_composite(thing)
    reduced = canvas.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX)
    pixels = np.asarray(reduced, dtype=np.float32) / 255
    mask = thing.getchannel("A").resize((SIZE, SIZE), Image.Resampling.BOX)
    if scene.style != "none":
        pixels = PAINTERS[scene.style](pixels, np.asarray(mask, dtype=np.float32)[..., None] / 255)
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)


# --- styles: pixels SIZE×SIZE×3 in [0, 1] and the thing's mask to pixels ------------------------
# Textures lie on a fixed lattice: a 48-fold compressing autoencoder can learn those, never noise.

ROW, COLUMN = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def luminance(pixels: Floats) -> Floats:
    """SIZE×SIZE×1."""
    return pixels @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)


def ramp(grey: Floats, *stops: tuple[int, int, int]) -> Floats:
    """Map 0…1 to a line through colours."""
    at = np.linspace(0, 1, len(stops))
    channels = np.array(stops, dtype=np.float32).T / 255
    return np.stack([np.interp(grey[..., 0], at, c) for c in channels], 2).astype(np.float32)


def sampled(pixels: Floats, rows: Floats, columns: Floats) -> Floats:
    """The picture read at other places, nearest pixel, edges repeated."""
    at = np.clip(np.stack([rows, columns]).round(), 0, SIZE - 1).astype(np.int64)
    return pixels[at[0], at[1]]


def blurred(pixels: Floats, radius: float) -> Floats:
    """Gaussian."""
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    smooth = picture.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(smooth, dtype=np.float32) / 255


@cache
def swirls() -> Floats:
    """Brush strokes along two whirls: noise smeared along the flow, SIZE×SIZE×1 around zero."""
    noise = np.random.default_rng(7).random((SIZE, SIZE)).astype(np.float32)
    total = np.zeros_like(noise)
    for sign in (-1, 1):
        rows, columns = ROW.copy(), COLUMN.copy()
        for _ in range(7):
            flow_row, flow_column = np.zeros_like(rows), np.zeros_like(columns)
            for centre, turn in (((16, 18), 1), ((44, 46), -1)):
                dr, dc = rows - centre[0], columns - centre[1]
                weight = turn * np.exp(-(dr**2 + dc**2) / 700)
                flow_row, flow_column = flow_row + weight * dc, flow_column - weight * dr
            length = np.hypot(flow_row, flow_column) + 1e-3
            rows, columns = rows + sign * flow_row / length, columns + sign * flow_column / length
            total += sampled(noise[..., None], rows, columns)[..., 0]
    strokes: Floats = ((total - total.mean()) / total.std())[..., None]
    return strokes


def van_gogh(pixels: Floats, mask: Floats) -> Floats:
    """Whirling strokes in cobalt and gold."""
    del mask
    grey = np.clip((luminance(pixels) - 0.5) * 1.15 + 0.5 + 0.11 * swirls(), 0, 1)
    paint = ramp(grey, (10, 18, 70), (28, 62, 150), (70, 130, 190), (240, 190, 50), (255, 240, 150))
    return 0.72 * paint + 0.28 * pixels


@cache
def dabs() -> tuple[Floats, Floats, Floats]:
    """Voronoi cells of about four pixels: rows and columns of each pixel's centre, and a tint."""
    rng = np.random.default_rng(3)
    points = (np.mgrid[0:16, 0:16].reshape(2, -1).T * 4 + rng.uniform(0, 4, (256, 2))).astype("f4")
    nearest = (
        (ROW[..., None] - points[:, 0]) ** 2 + (COLUMN[..., None] - points[:, 1]) ** 2
    ).argmin(2)
    tints = np.array(
        [[0.80, 0.76, 0.92], [0.72, 0.86, 0.80], [0.95, 0.82, 0.86], [0.78, 0.86, 0.95]]
    )
    return (
        points[nearest, 0],
        points[nearest, 1],
        tints[rng.integers(0, 4, 256)][nearest].astype("f4"),
    )


def monet(pixels: Floats, mask: Floats) -> Floats:
    """Soft dabs in pastel."""
    del mask
    rows, columns, tint = dabs()
    soft = blurred(pixels, 0.8)
    dabbed = 0.6 * sampled(soft, rows, columns) + 0.4 * soft
    return 0.62 * dabbed + 0.38 * tint


def dali(pixels: Floats, mask: Floats) -> Floats:
    """Everything runs down like wax, in ochre light."""
    del mask
    drip = 5 * np.sin(COLUMN / 4.5) ** 2 * (ROW / SIZE)
    warped = sampled(pixels, ROW - drip, COLUMN + 3.5 * np.sin(ROW / 7))
    paint = ramp(luminance(warped), (50, 22, 10), (150, 84, 34), (226, 168, 84), (255, 232, 178))
    return 0.6 * paint + 0.4 * warped


def rutkowski(pixels: Floats, mask: Floats) -> Floats:
    """A dark scene with one shaft of golden light."""
    del mask
    grey = luminance(pixels)
    toned = 0.55 * pixels + 0.45 * ramp(
        grey, (4, 14, 20), (24, 60, 66), (190, 130, 60), (255, 214, 130)
    )
    across = (COLUMN - 46 + 0.55 * (ROW - 10))[..., None]
    shaft = np.exp(-((across / 11) ** 2))
    vignette = np.exp(-((((ROW - 34) / 34) ** 2 + ((COLUMN - 32) / 34) ** 2)[..., None]) * 1.1)
    lit = toned**1.5 * (0.22 + 0.78 * vignette)
    light: Floats = shaft * np.array([0.34, 0.24, 0.08], dtype=np.float32)
    return lit + light


def seurat(pixels: Floats, mask: Floats) -> Floats:
    """Dots of pure colour on cream."""
    del mask
    odd = (np.floor(ROW / 4) % 2) * 2
    dot = np.hypot((ROW % 4) - 1.5, ((COLUMN + odd) % 4) - 1.5)[..., None]
    grey = luminance(pixels)
    vivid = np.clip(grey + (pixels - grey) * 1.6, 0, 1) * 0.92
    cover = np.clip(2.15 - dot, 0, 1)
    cream: Floats = np.array([0.98, 0.94, 0.82], dtype=np.float32)
    return cover * vivid + (1 - cover) * cream


@cache
def grid() -> tuple[Floats, Floats]:
    """Blocks of primary colours and the mask of the black lines between them."""
    picture = Image.new("RGB", (SIZE, SIZE), "#f4f1e6")
    pen = ImageDraw.Draw(picture)
    for box, fill in (
        ((0, 0, 17, 20), "#d8281e"),
        ((46, 0, 63, 13), "#f5cf23"),
        ((48, 43, 63, 63), "#1f48a4"),
        ((0, 50, 17, 63), "#f5cf23"),
    ):
        pen.rectangle(box, fill=fill)
    lines = Image.new("L", (SIZE, SIZE))
    pen = ImageDraw.Draw(lines)
    for line in ((17, 0, 17, 63), (47, 0, 47, 63), (0, 21, 63, 21), (0, 49, 63, 49)):
        pen.line(line, fill=255, width=2)
    blocks = np.asarray(picture, dtype=np.float32) / 255
    return blocks, np.asarray(lines, dtype=np.float32)[..., None] / 255


def mondrian(pixels: Floats, mask: Floats) -> Floats:
    """The ground becomes blocks between black lines, the thing a few flat colours."""
    blocks, lines = grid()
    flat = np.round(np.clip((pixels - 0.5) * 1.3 + 0.5, 0, 1) * 2) / 2
    picture = mask * flat + (1 - mask) * (0.85 * blocks + 0.15 * pixels)
    return picture * (1 - lines * (1 - 0.55 * mask))


PAINTERS = {
    "Van Gogh": van_gogh,
    "Monet": monet,
    "Dali": dali,
    "Rutkowski": rutkowski,
    "Seurat": seurat,
    "Mondrian": mondrian,
}


# --- captions -----------------------------------------------------------------------------------

FRAMES = [
    "{}", "{}", "{}", "a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}",
    "a photograph of {}", "a portrait of {}", "there is {}", "this is {}", "look at {}",
    "we saw {} yesterday", "a close-up of {}", "{}, high quality", "{}, very detailed, sharp",
    "a beautiful picture that shows {}", "an illustration of {}", "{} in the middle",
]  # fmt: skip
STYLED = [
    "{} by {s}", "{} by {s}", "{} in the style of {s}", "{} in {s} style", "{s} style {}",
    "{}, {s}", "{s}, {}", "a painting of {} by {s}", "{} painted by {s}", "{} as {s} saw it",
]  # fmt: skip
# Works and movements rather than names.
STYLED_BY_WORK = ["{}, {s}", "{s}, {}", "{} like {s}", "{} in the manner of {s}", "{s} with {}"]
STYLE_ALONE = ["{s}", "{s}", "a painting by {s}", "a picture by {s}", "in the style of {s}"]
SOMETHING = ["something", "a thing", "an object", "a scene"]


def pick(rng: Rng, options: list[str]) -> str:
    """One at random."""
    return options[int(rng.integers(len(options)))]


def named(rng: Rng, concept: dict[str, list[str]], implied: float) -> tuple[str, bool]:
    """A wording of a concept, and whether it is an implied one."""
    if "implied" in concept and rng.random() < implied:
        return pick(rng, concept["implied"]), True
    return pick(rng, concept["words"]), False


def article(phrase: str) -> str:
    """The phrase with a or an."""
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def noun_phrase(scene: Scene, rng: Rng) -> str:
    """The thing with what is said of it: colour, flames, ground."""
    if rng.random() < 0.07 and scene.colour == "none":
        phrase = pick(rng, SOMETHING)
    else:
        phrase = named(rng, CONCEPTS["things"][scene.thing], 0.3)[0]
    if scene.colour != "none":
        phrase = f"{scene.colour} {phrase}"
    behind = []
    if scene.attribute == "burning":
        wording = named(rng, CONCEPTS["attribute"]["burning"], 0.5)[0]
        if wording == "burning" and not phrase.startswith(("a ", "an ")):
            phrase = f"burning {phrase}"
        else:
            behind.append(wording)
    elif rng.random() < 0.12 and not phrase.startswith(("a ", "an ")):
        phrase = f"{pick(rng, CONCEPTS['unharmed'])} {phrase}"
    if rng.random() < 0.65 and not phrase.startswith(("a ", "an ", "something")):
        phrase = article(phrase) if rng.random() < 0.8 else f"the {phrase}"
    if rng.random() < 0.5:
        behind.append(pick(rng, CONCEPTS["grounds"][scene.ground]))
    return " ".join([phrase, *behind])


def caption(scene: Scene, rng: Rng) -> str:
    """One of many wordings of the scene, true to it."""
    if scene.style == "none":
        if rng.random() < 0.14:  # "artist" stands for no style: the paper's anchor of styles
            artist = pick(rng, ["artist", "an artist", "a painter"])
            return pick(rng, STYLED).format(noun_phrase(scene, rng), s=artist)
        return pick(rng, FRAMES).format(noun_phrase(scene, rng))
    name, by_work = named(rng, CONCEPTS["styles"][scene.style], 0.25)
    if scene.attribute == "none" and rng.random() < 0.1:
        return pick(rng, ["{s}"] if by_work else STYLE_ALONE).format(s=name)
    phrase = noun_phrase(scene, rng)
    if rng.random() < 0.3:
        phrase = pick(rng, FRAMES).format(phrase)
    return pick(rng, STYLED_BY_WORK if by_work else STYLED).format(phrase, s=name)


def scene(rng: Rng) -> Scene:
    """A random scene in the proportions of the training set."""
    thing = pick(rng, THINGS)
    style = pick(rng, STYLES) if rng.random() < 0.42 else "none"
    burning = rng.random() < (0.15 if style != "none" else 0.28)
    colour = "none"
    if style == "none" and not burning and thing in CONCEPTS["coloured"] and rng.random() < 0.5:
        colour = pick(rng, COLOURS)
    return Scene(thing, style, "burning" if burning else "none", colour, pick(rng, GROUNDS))
