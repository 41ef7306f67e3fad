"""Inspection: what a file is, whether it would be converted, and nothing run or read for it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from erasepro_convert.sd1.keys import POSITION_IDS
from tests.conftest import Cli
from tests.miniature import State, save_folder, with_ema


def inspected(cli: Cli, *paths: Path, code: int = 0, options: tuple[str, ...] = ()) -> list[dict]:  # type: ignore[type-arg]
    ran = cli("inspect", "--json", *options, *paths)
    assert ran.code == code, ran.err
    found: list[dict] = json.loads(ran.out)  # type: ignore[type-arg]
    return found


def test_a_training_checkpoint(cli: Cli, state: State, tmp_path: Path) -> None:
    """Everything notable at once: EMA, a rider, odd position ids, what the pickle asks for."""
    odd = {**with_ema(state), POSITION_IDS: state[POSITION_IDS].float(), "lora_x": torch.ones(1)}
    torch.save({"state_dict": odd, "epoch": 1}, tmp_path / "in.ckpt")
    (found,) = inspected(cli, tmp_path / "in.ckpt")
    assert found["refused"] is None
    assert found["variant"] == "stable-diffusion-v1"
    assert found["tensors"]["U-Net"] == {"F32": 686}
    assert found["tensors"]["EMA"] == {"F32": 687, "I64": 1}
    assert found["tensors"]["text encoder"] == {"F32": 197}
    assert found["left_out"] == {
        "EMA copy of the U-Net: unedited, it would bring the concept back": 688,
        "a LoRA inside the file": 1,
        "training state beside the weights": 1,
    }
    assert "position_ids are F32: to be repaired" in found["facts"]
    assert "torch._utils._rebuild_tensor_v2" in found["asks_for"]
    assert found["files"][0]["sha256"] is None


def test_hashes_are_those_of_hubs_and_uis(cli: Cli, checkpoint_file: Path) -> None:
    content = checkpoint_file.read_bytes()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    (found,) = inspected(cli, checkpoint_file, options=("--hash",))
    (file,) = found["files"]
    digest = hashlib.sha256(content).hexdigest()
    assert file["autov1"] == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
    assert (file["sha256"], file["autov2"]) == (digest, digest[:10])
    assert file["autov3"] == hashlib.sha256(body).hexdigest()
    assert found["metadata"]["author"] == "somebody"


def test_many_files_and_those_that_would_be_refused(
    cli: Cli, state: State, checkpoint_file: Path, tmp_path: Path
) -> None:
    """One bad file does not hide the others; the code says that there is one."""
    save_file({"lora_unet_x": torch.ones(1)}, tmp_path / "lora.safetensors")
    (tmp_path / "broken.ckpt").write_bytes(b"nonsense")
    folder = save_folder(state, tmp_path / "folder", ".fp16")
    paths = [tmp_path / "lora.safetensors", tmp_path / "broken.ckpt", checkpoint_file, folder]
    lora, broken, good, diffusers = inspected(cli, *paths, code=4)
    assert "a LoRA" in lora["refused"]
    assert lora["tensors"] == {"others": {"F32": 1}}
    assert "neither a safetensors file" in broken["refused"]
    assert good["refused"] is None
    assert diffusers["refused"] is None
    assert all(file["name"].endswith(".fp16.safetensors") for file in diffusers["files"])
    ran = cli("inspect", *paths)
    assert ran.code == 4
    assert "2 of 4 would be refused" in ran.err
    assert ran.out.count("would be converted") == 2
    assert cli("inspect", tmp_path / "none").code == 2


def test_a_pickle_that_asks_for_code_is_named_and_not_run(cli: Cli, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "in.ckpt")
    (found,) = inspected(cli, tmp_path / "in.ckpt", code=4)
    assert "asks for __builtin__.eval" in found["refused"]
    assert not (tmp_path / "ran").exists()


def test_what_a_file_says_of_its_erasure_does_not_reach_the_terminal_raw(
    cli: Cli, state: State, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "x", metadata={"erasepro.concepts": "\x1b[31mred"})
    ran = cli("inspect", tmp_path / "x")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert ran.out.count(r"\x1b[31mred") == 2, "in the metadata and among what is notable"


def test_names_from_the_file_do_not_reach_the_terminal_raw(cli: Cli, tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "x", metadata={"note": "\x1b[31mred\nline"})
    ran = cli("inspect", tmp_path / "x")
    assert "\x1b" not in ran.out
    assert r"\x1b[31mred\nline" in ran.out


@pytest.mark.parametrize("option", [[], ["--hash"]])
def test_inspection_imports_nothing_heavy(option: list[str], checkpoint_file: Path) -> None:
    script = f"""
import sys
from erasepro_convert.cli import main
main(["inspect", *{option}, {str(checkpoint_file)!r}])
assert not {{"torch", "transformers", "diffusers"}} & set(sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ran.returncode == 0, ran.stderr


def test_a_gguf_file_is_named(cli: Cli, tmp_path: Path) -> None:
    """Also where its count of tensors looks like the brace that safetensors begins with."""
    for count in (686, ord("{")):
        (tmp_path / "in.gguf").write_bytes(
            b"GGUF" + (3).to_bytes(4, "little") + count.to_bytes(16, "little")
        )
        (found,) = inspected(cli, tmp_path / "in.gguf", code=4)
        assert "it is a GGUF file" in found["refused"]
