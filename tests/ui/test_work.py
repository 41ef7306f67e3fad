"""What the buttons have done: documents that fail, evidence, drawing that takes long."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from erasepro_convert import demo
from erasepro_convert.errors import UsageError
from erasepro_convert.images import preview
from erasepro_convert.runtime.progress import silent
from erasepro_convert.ui import erase_results, markup, work
from erasepro_convert.ui.erase_fields import EraseFields
from erasepro_convert.ui.folders import Folders
from erasepro_convert.ui.jobs import Job, Jobs
from erasepro_convert.ui.page import now_text
from erasepro_convert.ui.release import DOCUMENTS, Document
from erasepro_convert.ui.request import Request
from tests.conftest import VAN_GOGH, Cli


@pytest.fixture
def folders(tmp_path: Path, checkpoint_file: Path) -> Folders:
    shutil.copy(checkpoint_file, tmp_path / "in.safetensors")
    (tmp_path / "recipe.yaml").write_text(VAN_GOGH, "utf-8")
    return Folders([tmp_path])


@pytest.fixture
def fields() -> EraseFields:
    async def build() -> EraseFields:  # as in the server: see build_app
        with gr.Blocks(analytics_enabled=False):
            return EraseFields()

    return asyncio.run(build())


REQUEST = Request("in.safetensors", ("recipe.yaml",), output="out.safetensors")


def done(kind: str, does: Callable[[Any], Any]) -> tuple[Job, str]:
    """Have a job done; return it with the line above the tabs."""
    jobs = Jobs()
    try:
        job = jobs.submit(kind, "Writing it", does)
        while not job.is_over:
            pass
        return job, now_text(jobs)
    finally:
        jobs.close()


def test_a_document_that_fails_is_not_said_of_the_checkpoint(
    folders: Folders, fields: EraseFields, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(output: Path, *, force: bool) -> Path:
        raise RuntimeError("the disk is full")

    first, second, *rest = DOCUMENTS
    failing = Document(second.title, second.about, second.ending, fail)
    monkeypatch.setattr(work, "DOCUMENTS", (first, failing, *rest))
    job, line = done("write", lambda progress: work.write(folders, REQUEST, progress))
    assert job.state == "done"
    assert "the checkpoint is written, but not its card" in line
    shown = erase_results.ended(fields, job)[fields.release]
    assert "<h3>Written</h3>" in shown
    assert "The checkpoint is written, but not its card: " in shown
    assert "the disk is full" in shown
    assert "out.evidence.zip" in shown, "the others are there"


def test_a_thumbnail_and_a_lora_come_with_it(
    folders: Folders, fields: EraseFields, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "picture.png")
    asked = {**REQUEST.fields(), "thumbnail": "picture.png", "lora": "lora.safetensors"}
    job, _ = done("write", lambda progress: work.write(folders, Request(**asked), progress))
    assert job.error is None
    assert (tmp_path / "lora.safetensors").exists()
    assert b"modelspec.thumbnail" in (tmp_path / "out.safetensors").read_bytes()
    assert "lora.safetensors" in erase_results.ended(fields, job)[fields.release]


@pytest.mark.parametrize("field", ["thumbnail", "lora"])
def test_neither_lies_elsewhere(field: str, folders: Folders, tmp_path: Path) -> None:
    asked = Request(**{**REQUEST.fields(), field: "/tmp/elsewhere.safetensors"})
    with pytest.raises(UsageError, match="outside of the folders"):
        work.write(folders, asked, silent)
    assert not (tmp_path / "out.safetensors").exists()


def test_evidence_is_verified_in_the_words_of_the_command(
    folders: Folders, cli: Cli, tmp_path: Path
) -> None:
    work.write(folders, REQUEST, silent)
    ran = cli("verify", tmp_path / "out.evidence.zip")
    found = work.verify_evidence(folders, "out.evidence.zip", silent)
    shown = markup.verified_evidence(found)
    said = [f"{check}: {sentence}" for check, sentence in found.said.items()]
    assert said == [line[2:] for line in ran.out.splitlines()[:-1]]
    assert all(markup.text(line) in shown for line in said)
    assert f"{len(found.evidence.files)} files as the evidence says" in shown
    (tmp_path / "out.safetensors").write_bytes(b"another")
    found = work.verify_evidence(folders, "out.evidence.zip", silent)
    shown = markup.verified_evidence(found)
    assert "from the evidence</h3>" in shown
    assert "checkpoint: 3 deviations" in shown


def test_a_checkpoint_elsewhere_is_not_read_for_its_evidence(
    folders: Folders, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work.write(folders, REQUEST, silent)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "out.safetensors"
    shutil.move(tmp_path / "out.safetensors", elsewhere)
    (tmp_path / "out.safetensors").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="outside of the folders"):
        work.verify_evidence(folders, "out.evidence.zip", silent)


@pytest.mark.slow
def test_where_drawing_takes_long_it_is_timed_first(
    tmp_path: Path, fields: EraseFields, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "DEMO_SIZE", 0)
    monkeypatch.setattr(preview, "select_device", lambda: SimpleNamespace(type="cpu"))
    with demo.checkpoint() as model:
        shutil.copy(model, tmp_path / "demo.safetensors")
    request = Request("demo.safetensors", pairs=("snoopy → dog",))
    folders = Folders([tmp_path])
    job, line = done("look", lambda progress: work.draw_or_time(folders, request, progress))
    assert 0 < job.result.count < 3600
    assert "timed, and not drawn yet" in line
    shown = erase_results.ended(fields, job)
    assert "It takes about" in shown[fields.draw_note]
    assert shown[fields.draw_all]["visible"]
    assert erase_results.begun(fields, job)[fields.draw_all]["visible"] is False
    assert fields.drawn not in shown
