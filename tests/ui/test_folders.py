"""What the page may read and write: what lies in the named folders, wherever links lead."""

from pathlib import Path

import pytest

from erasepro_convert.errors import UsageError
from erasepro_convert.ui.folders import Folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "allowed"
    root.mkdir()
    (root / "model.safetensors").write_bytes(b"model")
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    return root


def test_a_path_is_taken_as_it_is_or_from_the_first_folder(root: Path) -> None:
    folders = Folders([root])
    assert folders.to_read("model.safetensors") == root / "model.safetensors"
    assert folders.to_read(str(root / "model.safetensors")) == root / "model.safetensors"
    assert folders.to_write("out.safetensors") == root / "out.safetensors"
    assert folders.folder_to_write("out") == root / "out"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.safetensors", "~/x", "a/../../secret.safetensors"]
)
def test_what_lies_elsewhere_is_neither_read_nor_written(path: str, root: Path) -> None:
    folders = Folders([root])
    for use in (folders.to_read, folders.to_write, folders.folder_to_write):
        with pytest.raises(UsageError, match="outside of the folders"):
            use(path)


def test_a_link_to_elsewhere_is_not_read_and_not_entered(root: Path) -> None:
    (root / "link.safetensors").symlink_to(root.parent / "secret.safetensors")
    (root / "up").symlink_to(root.parent)
    folders = Folders([root])
    for path in ("link.safetensors", "up/secret.safetensors"):
        with pytest.raises(UsageError, match="outside of the folders"):
            folders.to_read(path)
    with pytest.raises(UsageError, match="outside of the folders"):
        folders.to_write("up/out.safetensors")
    with pytest.raises(UsageError, match="outside of the folders"):
        folders.folder_to_write("up")
    assert folders.to_write("link.safetensors") == root / "link.safetensors", "it is replaced"


def test_a_folder_with_a_link_to_elsewhere_is_not_read(root: Path) -> None:
    (root / "model" / "unet").mkdir(parents=True)
    (root / "model" / "unet" / "weights").symlink_to(root.parent / "secret.safetensors")
    with pytest.raises(UsageError, match="weights: lies outside"):
        Folders([root]).to_read("model")


@pytest.mark.parametrize("path", ["", "  "])
def test_nothing_is_no_path(path: str, root: Path) -> None:
    for use in (Folders([root]).to_read, Folders([root]).to_write):
        with pytest.raises(UsageError, match="choose a file first"):
            use(path)


def test_odd_paths_are_refused_in_words(root: Path) -> None:
    folders = Folders([root])
    with pytest.raises(UsageError, match="NUL"):
        folders.to_read("a\0b")
    with pytest.raises(UsageError, match="no such file"):
        folders.to_read("missing.safetensors")
    with pytest.raises(UsageError, match="no such file"):
        folders.to_read("https://example.com/model.safetensors")
    with pytest.raises(UsageError, match="this is a folder"):
        folders.to_write("..")
    with pytest.raises(UsageError, match="no folder"):
        Folders([root / "model.safetensors"])


def test_lists_have_what_lies_inside_the_newest_first(root: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "new.ckpt").write_bytes(b"")
    (root / "sub" / "recipe.yaml").write_text("", "utf-8")
    (root / "sub" / "new.evidence.zip").write_bytes(b"")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "other.yaml").write_text("", "utf-8")
    (root / ".hidden" / "other.ckpt").write_bytes(b"")
    (root / "link.safetensors").symlink_to(root.parent / "secret.safetensors")
    (root / "dangling.safetensors").symlink_to(root / "nowhere")
    folders = Folders([root])
    assert [path.name for path in folders.checkpoints()] == ["new.ckpt", "model.safetensors"]
    assert [path.name for path in folders.recipes()] == ["recipe.yaml"]
    assert [path.name for path in folders.evidence()] == ["new.evidence.zip"]
