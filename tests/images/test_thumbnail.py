"""A picture of the user's in the output's metadata: small, the same each time, safely read."""

import base64
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.images.thumbnail import LIMIT, SIZE, URI, read_thumbnail
from erasepro_convert.manifest import read_manifest
from erasepro_convert.verification import verify
from tests.conftest import Cli


def picture(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.removeprefix(URI), validate=True)))


def noise(*shape: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "grey.png", "palette.png", "one-bit.png", "cmyk.jpg"]
)
def test_every_kind_becomes_a_small_square_jpeg(tmp_path: Path, name: str) -> None:
    modes = {"grey": "L", "palette": "P", "one-bit": "1", "cmyk": "CMYK"}
    path = tmp_path / name
    Image.new(modes.get(path.stem, "RGB"), (300, 200)).save(path)
    found = picture(read_thumbnail(path))
    assert (found.format, found.mode, found.size) == ("JPEG", "RGB", (SIZE, SIZE))
    assert read_thumbnail(path) == read_thumbnail(path)


@pytest.mark.parametrize("shape", [(256, 256, 3), (600, 900, 3), (40, 700, 4)])
def test_noise_stays_below_the_limit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    noise(*shape).save(tmp_path / "noise.png")
    assert len(base64.b64decode(read_thumbnail(tmp_path / "noise.png")[len(URI) :])) <= LIMIT


def test_the_middle_is_shown_and_what_is_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (300, 100), "red")
    image.paste((0, 0, 0, 0), (100, 0, 150, 100))
    image.paste("blue", (150, 0, 200, 100))
    image.save(tmp_path / "a.png")
    found = np.asarray(picture(read_thumbnail(tmp_path / "a.png")))
    assert found[:, 8:118].min() > 245  # the scaling mixes what lies at an edge
    assert found[128, 200, 2] > 250 > found[128, 200, 0] + 200


def test_a_turned_picture_stands_up_and_its_notes_are_lost(tmp_path: Path) -> None:
    image = Image.new("RGB", (256, 256), "black")
    image.paste("white", (0, 0, 256, 128))
    notes = Image.Exif()
    notes[0x0112] = 3  # upside down
    notes[0x010E] = "taken at home"
    image.save(tmp_path / "a.jpg", exif=notes)
    uri = read_thumbnail(tmp_path / "a.jpg")
    found = picture(uri)
    assert np.asarray(found)[0].max() < 10
    assert not found.getexif()
    assert b"taken at home" not in base64.b64decode(uri.removeprefix(URI))


def cut(path: Path) -> None:
    noise(100, 100, 3).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def deep(path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(path)


MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.png": (cut, "the picture is damaged"),
    "cut.jpg": (cut, "the picture is damaged"),
    "empty.png": (Path.touch, "no PNG, JPEG or WebP picture"),
    "a.gif": (lambda path: Image.new("RGB", (9, 9)).save(path), "no PNG, JPEG or WebP picture"),
    "a.bmp": (lambda path: Image.new("RGB", (9, 9)).save(path), "no PNG, JPEG or WebP picture"),
    "a.safetensors": (lambda path: path.write_bytes(b"\x08" + bytes(99)), "no PNG, JPEG or WebP"),
    "large.png": (lambda path: Image.new("1", (10000, 10000)).save(path), "50 million pixels"),
    "bomb.png": (lambda path: Image.new("1", (20000, 20000)).save(path), "50 million pixels"),
    "deep.png": (deep, "16 bits for a pixel"),
    "heavy.png": (
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 30),
        "64 MB",
    ),
    "pipe.png": (os.mkfifo, "there is no such picture"),
    "folder.png": (os.mkdir, "there is no such picture"),
    "none.png": (lambda path: None, "there is no such picture"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_fitting_picture_is_refused_before_any_work(
    cli: Cli, van_gogh: Path, tmp_path: Path, name: str
) -> None:
    make, said = MADE[name]
    make(tmp_path / name)
    (tmp_path / "in.ckpt").touch()
    ran = cli(
        van_gogh, tmp_path / "in.ckpt", tmp_path / "o.safetensors", "--thumbnail", tmp_path / name
    )
    assert ran.code == 2
    assert f"{name}: " in ran.err
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_string_is_the_uri_of_a_thumbnail() -> None:
    assert read_thumbnail(f"{URI}AAAA") == f"{URI}AAAA"
    with pytest.raises(UsageError, match="is the path of a picture, or begins with data:"):
        read_thumbnail("cat.png")


def test_folders_have_no_place_for_it(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    ran = cli(van_gogh, checkpoint_file, f"{tmp_path}/o/", "--thumbnail", tmp_path / "a.png")
    assert ran.code == 2
    assert "a diffusers folder has no place for a picture" in ran.err


def test_the_picture_is_never_replaced(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "shown.safetensors"
    noise(9, 9, 3).save(shown, "PNG")
    ran = cli("--force", van_gogh, checkpoint_file, shown, "--thumbnail", shown)
    assert ran.code == 2
    assert "which is read" in ran.err


@pytest.mark.slow
def test_the_output_shows_it_and_verifies(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """By replay too, when the picture is gone; an input's thumbnail is left out."""
    noise(300, 200, 3).save(tmp_path / "a.png")
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    ran = cli(van_gogh, checkpoint_file, out, "--thumbnail", tmp_path / "a.png", "--private")
    assert ran.code == 0, ran.err
    uri = read_thumbnail(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    with safe_open(out, "np") as file:
        assert file.metadata()["modelspec.thumbnail"] == uri
    assert (
        read_manifest(out.with_suffix(".manifest.json")).output.metadata["modelspec.thumbnail"]
        == uri
    )
    assert verify(out, base=checkpoint_file, replay=True).findings == ()

    manifest = convert(van_gogh, out, again, Options())
    assert "modelspec.thumbnail" not in manifest.output.metadata
    assert verify(again, base=out, replay=True).findings == ()
    shown = cli("inspect", out).out
    assert max(map(len, shown.splitlines())) < 200
    assert (
        json.loads(cli("inspect", "--json", out).out)[0]["metadata"]["modelspec.thumbnail"] == uri
    )
