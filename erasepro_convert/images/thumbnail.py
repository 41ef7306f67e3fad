"""The small picture that UIs show of a checkpoint, from a picture that the user has."""

import base64
import warnings
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from erasepro_convert.errors import UsageError

URI = "data:image/jpeg;base64,"
"""What our thumbnails begin with, as ModelSpec asks for."""
SIZE = 256
"""Pixels on each side, as ModelSpec recommends."""
QUALITIES = (85, 60, 35)
"""Of JPEG, the first that stays below the limit: photographs do with the first, noise does not."""
LIMIT = 40_000
"""Bytes, before base64 makes a third more of them."""
FORMATS = ("JPEG", "PNG", "WEBP")
LARGEST_FILE = 64 << 20
"""Bytes of a picture that is read."""
MOST_PIXELS = 50_000_000
"""Pixels of a picture that is read; 200 MB in memory."""
BACKGROUND = "white"
"""What is seen through transparent pixels."""


def read_thumbnail(picture: Path | str) -> str:
    """Return the ``data:`` URI of a picture, cut to its middle square, in ``SIZE``.

    A string is such a URI already.  The same picture gives the same bytes (with the same version of
    Pillow); nothing that a file says beside its pixels (place, camera, prompt) gets into it.

    Raises UsageError for a file that is no picture in one of the formats, is damaged or too large.
    """
    if isinstance(picture, str):
        if not picture.startswith(URI):
            raise UsageError(f"a thumbnail is the path of a picture, or begins with {URI}")
        return picture
    square = _middle_square(picture)
    for quality in QUALITIES:
        encoded = BytesIO()
        square.save(encoded, "JPEG", quality=quality, optimize=True)
        if encoded.tell() <= LIMIT:
            break
    return URI + base64.b64encode(encoded.getvalue()).decode("ascii")


def _middle_square(path: Path) -> Image.Image:
    if not path.is_file():  # opening a pipe would hang
        raise UsageError(f"{path}: there is no such picture")
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"{path}: a picture of more than {LARGEST_FILE >> 20} MB")
    content = BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is below it
            opened = Image.open(content, formats=FORMATS)
    except Image.DecompressionBombError:
        raise UsageError(_too_many_pixels(path)) from None
    except Exception as error:
        raise UsageError(f"{path}: this is no PNG, JPEG or WebP picture") from error
    with opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise UsageError(_too_many_pixels(path))
        if opened.mode.startswith("I"):
            raise UsageError(f"{path}: a picture with 16 bits for a pixel; save it with 8")
        try:
            # Phones turn pictures by a note in the file, and it is lost here.
            turned = ImageOps.exif_transpose(opened).convert("RGBA")
        except Exception as error:  # the decoders raise all kinds of errors for damaged files
            raise UsageError(f"{path}: the picture is damaged") from error
    seen = Image.alpha_composite(Image.new("RGBA", turned.size, BACKGROUND), turned)
    return ImageOps.fit(seen.convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS)


def _too_many_pixels(path: Path) -> str:
    return f"{path}: a picture of more than {MOST_PIXELS // 10**6} million pixels"
