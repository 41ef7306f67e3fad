"""A bundle's zip has one way to be written; whatever else it is, is found or refused."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.release import bundle
from erasepro_convert.release.bundle import pack, read_bundle, writing_bundle

FILES = {"evidence.json": b"{}\n", "b.txt": b"some text", "empty": b""}


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], packed: bool = False) -> bytes:
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def test_what_was_packed_is_read(tmp_path: Path) -> None:
    for name in ("out.zip", "out"):
        with writing_bundle(tmp_path / name, FILES, Inputs([]), ()):
            pass
        assert read_bundle(tmp_path / name) == (FILES, True)


def test_the_order_of_files_changes_no_byte() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items())))


@pytest.mark.slow
def test_every_changed_byte_of_a_zip_is_found(tmp_path: Path) -> None:
    """Those between the files too: names, dates, attributes, checksums, offsets."""
    whole, path = pack(FILES), tmp_path / "out.zip"
    for place in range(len(whole)):
        for mask in (1, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= mask
            path.write_bytes(changed)
            try:
                assert not read_bundle(path)[1], place
            except VerificationError:
                continue


@pytest.mark.slow
def test_every_cut_and_every_addition_is_found(tmp_path: Path) -> None:
    whole, path = pack(FILES), tmp_path / "out.zip"
    for changed in [*(whole[:end] for end in range(len(whole))), whole + b"\0", b"\0" + whole]:
        path.write_bytes(changed)
        try:
            assert not read_bundle(path)[1]
        except VerificationError:
            continue


def test_a_zip_that_was_zipped_anew_is_another(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"
    path.write_bytes(zipped(*FILES.items()))  # with today's dates
    assert read_bundle(path) == (FILES, False)


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip at all",
        zipped(("../evidence.json", b"x")),
        zipped(("/etc/passwd", b"x")),
        zipped(("C:evil", b"x")),
        zipped(("a/b", b"x")),
        zipped(("folder/", b"")),
        zipped((".hidden", b"x")),
        zipped(("a\\b", b"x")),
        zipped(("same", b"x"), ("some", b"y")).replace(b"some", b"same"),
        zipped(("same", b"x"), ("SAME", b"y")),
        zipped(("bomb", bytes(1 << 20)), packed=True),
        zipped(*((f"file{number}", b"") for number in range(bundle.FILE_LIMIT + 1))),
    ],
)
def test_a_hostile_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.zip"
    path.write_bytes(content)
    with pytest.raises(VerificationError, match=r"out\.zip: not a bundle of evidence: "):
        read_bundle(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_a_zip_is_content_and_makes_another_zip(tmp_path: Path) -> None:
    path = tmp_path / "out.zip"
    path.write_bytes(zipped((link(), b"/etc/passwd")))
    assert read_bundle(path) == ({"link": b"/etc/passwd"}, False)


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing_bundle(tmp_path / "out.zip", FILES, Inputs([]), ()):
        pass
    with writing_bundle(tmp_path / "out", FILES, Inputs([]), ()):
        pass
    monkeypatch.setattr(bundle, "SIZE_LIMIT", 10)
    for name in ("out.zip", "out"):
        with pytest.raises(VerificationError, match="bytes, and no evidence has more than 10"):
            read_bundle(tmp_path / name)


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_folder_has_plain_files_alone(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    with writing_bundle(folder, FILES, Inputs([]), ()):
        pass
    match kind:
        case "folder":
            (folder / "more").mkdir()
        case "link":
            (folder / "more").symlink_to(folder / "b.txt")
        case _:
            os.mkfifo(folder / "more")
    with pytest.raises(VerificationError, match="more is no plain file"):
        read_bundle(folder)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_bundle(tmp_path / "out.zip")
