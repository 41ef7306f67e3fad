"""The documents of a release, written from Python."""

import zipfile
from pathlib import Path

import pytest

from erasepro_convert import write_card, write_civitai, write_evidence, write_report
from erasepro_convert.errors import UsageError, VerificationError
from tests.conftest import Cli

WRITERS = {
    write_report: "out.html",
    write_card: "out.card.md",
    write_civitai: "out.civitai.html",
    write_evidence: "out.evidence.zip",
}


@pytest.fixture
def output(cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> Path:
    target = tmp_path / "out.safetensors"
    assert cli("--quiet", van_gogh, checkpoint_file, target).code == 0
    return target


def test_each_is_written_beside_the_output(output: Path, cli: Cli) -> None:
    for write, name in WRITERS.items():
        assert write(output) == output.with_name(name)
        with pytest.raises(UsageError, match="exists already"):
            write(output)
        assert write(str(output), force=True) == output.with_name(name)
    assert zipfile.is_zipfile(output.with_name("out.evidence.zip"))
    assert cli("verify", output.with_name("out.evidence.zip")).code == 0
    assert cli("verify", output).code == 0


def test_a_changed_output_gets_none_that_vouches_for_it(output: Path) -> None:
    content = bytearray(output.read_bytes())
    content[-1] ^= 1
    output.write_bytes(content)
    for write in (write_card, write_civitai, write_evidence):
        with pytest.raises(VerificationError):
            write(output)


def test_without_a_manifest_there_is_nothing_to_say(output: Path) -> None:
    output.with_name("out.manifest.json").unlink()
    for write in WRITERS:
        with pytest.raises(UsageError, match=r"out\.manifest\.json"):
            write(output)
