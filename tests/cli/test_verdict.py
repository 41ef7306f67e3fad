"""The verdict on a conversion: at most 15 lines of 80 columns, whatever was erased from what."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from erasepro_convert.cli.terminal import Terminal
from erasepro_convert.cli.verdict import Places, closing_lines, show_verdict
from erasepro_convert.conversion.convert import convert
from erasepro_convert.manifest import DroppedEntry, EmaRecord, Manifest, PromptMeasure, Trained
from erasepro_convert.manifest.remarks import remarks
from erasepro_convert.manifest.verdict import Verdict, verdict
from erasepro_convert.recipe import load_recipe
from erasepro_convert.sd1.dropped_tensors import EMA_COPY
from tests.conftest import VAN_GOGH, Cli, WriteRecipe, copy_of_demo

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CHECKED: dict[str, float | None] = {"leak": 0.5, "drift": 0.3, "relative_update": None}
HOSTILE = ["[red]x[/red]", "x\x1b[31m", "'; rm -rf ~", "梵高" * 60, "a " * 200, "{0}", "<script>"]


@pytest.fixture(scope="module")
def made(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("verdict")
    (folder / "recipe.yaml").write_text(VAN_GOGH, encoding="utf-8")
    return convert(load_recipe(folder / "recipe.yaml"), checkpoint_file, folder / "o.safetensors")


def measured(
    made: Manifest,
    targets: Sequence[str] = ("Van Gogh",),
    leak: float = 0.2,
    drift: float = 0.1,
    limits: Mapping[str, float | None] | None = None,
    **others: Any,
) -> Manifest:
    """A manifest with these targets, all with this leak."""
    concept = made.recipe.concepts[0]
    recipe = made.recipe.model_copy(
        update={
            "concepts": tuple(concept.model_copy(update={"target": t}) for t in targets),
            "limits": made.recipe.limits.model_copy(update=limits or CHECKED),
        }
    )

    def with_mean(measure: PromptMeasure, mean: float, **changes: Any) -> PromptMeasure:
        return measure.model_copy(update={"mean": mean, "worst": mean + 0.1, **changes})

    leaks = tuple(with_mean(m, leak, concept=t) for m in made.probe.leak for t in targets)
    drifts = tuple(with_mean(m, drift) for m in made.probe.drift)
    probe = made.probe.model_copy(update={"leak": leaks, "drift": drifts})
    return made.model_copy(update={"recipe": recipe, "probe": probe, **others})


def whats(found: Verdict) -> list[str]:
    return [check.what for check in found.checks]


def shown(
    manifest: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    places: Sequence[Path] = (Path("in.ckpt"), Path("o.safetensors"), Path("o.manifest.json")),
    words: tuple[str, ...] = (),
) -> list[str]:
    """What a terminal of 80 columns shows."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("TERM", raising=False)
    capsys.readouterr()
    terminal = Terminal(quiet=False, to_stderr=False)
    found = verdict(manifest)
    asked = Places("" if words else "recipe.yaml", words, *places)
    show_verdict(terminal, found, closing_lines(terminal, manifest, found, asked))
    lines = ANSI.sub("", capsys.readouterr().out).splitlines()
    assert len(lines) <= 15
    assert all(cell_len(line) <= 80 for line in lines), lines
    assert all(line.isprintable() for line in lines)
    return lines


def test_each_measure_has_a_sentence_beside_its_limit(made: Manifest) -> None:
    found = verdict(measured(made))
    assert found.held
    assert whats(found) == [
        "Van Gogh is erased: 20% is left (limit 50%), 30% in one prompt",
        "stock text encoder: 20% is left (limit 50%), 30% in one prompt",
        "other prompts stayed: they moved by 10% (limit 30%), 20% in one prompt",
        "stock text encoder: others moved by 10% (limit 30%), 20% in one prompt",
    ]
    first = found.checks[0]
    assert (first.measure, first.text_encoder, first.value, first.limit) == (
        "leak", "edited", 0.2, 0.5,
    )  # fmt: skip
    assert found.autov2 == made.output.files[0].autov2 == made.output.files[0].sha256[:10]
    assert found.changes.startswith("68 of 1133 tensors changed (up to ")
    assert found.changes.endswith("); the rest is bit-identical")


def test_sentences_can_do_without_the_words_of_a_recipe(made: Manifest) -> None:
    held = made.alignment.model_copy(update={"held": ("Van Gogh",)})
    found = verdict(measured(made, alignment=held), lambda target: f"no {len(target)}")
    assert whats(found)[0].startswith("no 8 is erased: ")
    assert "erased before, and kept so: no 8" in found.warnings
    sentences = (*whats(found), found.changes, *found.warnings)
    assert not any("Gogh" in sentence for sentence in sentences)


def test_the_worst_of_many_targets_counts(made: Manifest) -> None:
    manifest = measured(made, ["a", "b", "c"])
    worse = manifest.probe.leak[1].model_copy(update={"mean": 0.61})
    probe = manifest.probe.model_copy(update={"leak": (worse, *manifest.probe.leak)})
    found = verdict(manifest.model_copy(update={"probe": probe}))
    assert not found.held
    assert found.checks[0].concept == "b"
    assert found.checks[0].what == (
        "1 of 3 targets not erased: 61% is left (limit 50%), 30% in one prompt"
    )
    assert [check.held for check in found.checks] == [False, True, True, True]


@pytest.mark.parametrize(("value", "said"), [(0.5, "50%"), (0.501, "50.1%"), (0.4999, "50%")])
def test_a_figure_has_the_digits_that_tell_it_from_its_limit(
    made: Manifest, value: float, said: str
) -> None:
    assert f": {said} is left (limit 50%)" in whats(verdict(measured(made, leak=value)))[0]


def test_without_limits_nothing_is_said_to_hold(made: Manifest) -> None:
    none = {"leak": None, "drift": None}
    found = verdict(measured(made, limits=none))
    assert {check.held for check in found.checks} == {None}
    assert whats(found)[0] == "Van Gogh: 20% is left (no limit), 30% in one prompt"
    assert whats(found)[2] == "other prompts moved by 10% (no limit), 20% in one prompt"


def test_an_untouched_text_encoder_is_one_text_encoder(made: Manifest) -> None:
    edits = tuple(edit for edit in made.edits if edit.layer.startswith("unet."))
    found = verdict(measured(made, edits=edits))
    assert [check.text_encoder for check in found.checks] == [None, None]


def test_a_limit_on_updates_is_a_check(made: Manifest) -> None:
    largest = max(edit.relative_update for edit in made.edits)
    found = verdict(measured(made, limits={**CHECKED, "relative_update": largest / 2}))
    assert [check.held for check in found.checks] == [True] * 4 + [False]


def test_pictures_have_the_last_word_on_a_training(
    made: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = made.recipe.model_copy(update={"training": object()})
    trained = Trained(device="cpu", losses=(1.0,), changes=())
    manifest = made.model_copy(update={"recipe": training, "trained": trained})
    lines = shown(manifest, capsys, monkeypatch)
    assert not any("is left" in line for line in lines)
    assert "! whether a training erased its targets only pictures tell: see evaluate" in lines
    assert any("erasepro-convert evaluate recipe.yaml o.safetensors" in line for line in lines)


@pytest.mark.parametrize("leak", [0.2, 1.37])
@pytest.mark.parametrize("count", [1, 5, 120])
def test_it_fits_whatever_is_erased(
    count: int,
    leak: float,
    made: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    targets = [f"a rather long target {number}" for number in range(count)]
    manifest = measured(made, targets, leak, drift=1.37)
    lines = shown(manifest, capsys, monkeypatch)
    assert lines[0] == "Erased from mini.safetensors:"
    assert lines[1].startswith("  a rather long target 0")
    assert (" more" in lines[1]) == (count > 2)
    assert lines[3].startswith("✓" if leak < 1 else "✗")
    assert lines[3].endswith("in one prompt")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(
    name: str,
    made: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = made.input.model_copy(update={"name": name})
    places = [Path(name), Path(name), Path(name)]
    for targets in ([name], [name, *HOSTILE]):
        manifest = measured(made, targets, input=source)
        lines = shown(manifest, capsys, monkeypatch, places)
        assert any(line.startswith("wrote ") for line in lines)
    assert "[red]x[/red]" in shown(measured(made, HOSTILE), capsys, monkeypatch)[1]


def test_what_deserves_attention_is_cut_to_what_fits(
    made: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = (DroppedEntry(name="model_ema.x", reason=EMA_COPY),)
    manifest = measured(
        made,
        limits={**CHECKED, "relative_update": 9.0},
        alignment=made.alignment.model_copy(update={"held": ("Van Gogh",) * 9}),
        ema=EmaRecord(edits=(), probe=made.probe),
        tensors=made.tensors.model_copy(update={"dropped": dropped}),
    )
    found = verdict(manifest)
    assert any("could bring targets back: EMA copy of the U-Net" in w for w in found.warnings)
    assert any("erased before, and kept so: Van Gogh" in w for w in found.warnings)
    assert len(found.warnings) > 2
    details = "\n".join(map(str, remarks(manifest)))
    assert all(line.removesuffix(" and 7 more") in details for line in found.warnings)
    lines = shown(manifest, capsys, monkeypatch)
    assert any(re.fullmatch(r"! \d more remarks: see --details", line) for line in lines)


def test_long_names_leave_commands_that_can_be_filled_in(
    made: Manifest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = shown(measured(made), capsys, monkeypatch)
    assert short[-2:] == [
        "$ erasepro-convert preview o.safetensors --base in.ckpt --recipe recipe.yaml",
        "$ erasepro-convert card o.safetensors # before it: evaluate, stress, report",
    ]
    places = [Path("v1-4.ckpt"), Path("v1-4-erased.safetensors"), Path("v1-4-erased.manifest.json")]
    assert shown(measured(made), capsys, monkeypatch, places)[-3:] == [
        "$ erasepro-convert preview v1-4-erased.safetensors \\",
        "    --base v1-4.ckpt --recipe recipe.yaml",
        "$ erasepro-convert card v1-4-erased.safetensors",
    ]
    words = ("--target", "a cat", "--anchor", "a dog")
    assert shown(measured(made), capsys, monkeypatch, words=words)[-3:-1] == [
        "$ erasepro-convert preview o.safetensors \\",
        "    --base in.ckpt --target 'a cat' --anchor 'a dog'",
    ]
    words = ("--target", "a cat" * 20, "--anchor", "a dog")
    lines = shown(measured(made), capsys, monkeypatch, words=words)
    assert "$ erasepro-convert preview OUT --base IN --target WORDS --anchor WORDS" in lines
    far = Path("/models" * 12)
    places = [far / "in.ckpt", far / "o.safetensors", far / "o.manifest.json"]
    lines = shown(measured(made), capsys, monkeypatch, places)
    assert "$ erasepro-convert preview OUT --base IN --recipe RECIPE" in lines
    assert any(re.match(r"wrote ….*/o\.safetensors \(.* MB, AutoV2 ", line) for line in lines)


def test_a_stream_without_our_signs_gets_plain_ones(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    asked = [str(van_gogh), str(checkpoint_file), str(tmp_path / "夢.safetensors")]
    command = [sys.executable, "-m", "erasepro_convert", *asked]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(command, capture_output=True, check=True, env=environment)
    text = ran.stdout.decode("ascii")
    assert "  Van Gogh > artist" in text
    assert "- Van Gogh: " in text
    assert r"\u5922.safetensors" in text


def test_a_refusal_has_the_checks_and_then_the_reasons(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(VAN_GOGH.replace("leak: null", "leak: 0.01"))
    target = tmp_path / "out.safetensors"
    refused = cli(recipe, checkpoint_file, target)
    assert refused.code == 3
    lines = refused.out.splitlines()
    assert lines[0] == "Not erased from mini.safetensors:"
    assert any(line.startswith("✗ ") for line in lines)
    assert refused.err.startswith("error: the result does not hold:\n- leak is above")
    assert not target.exists()
    dry = cli("--dry-run", recipe, checkpoint_file, target)
    assert dry.code == 3
    assert dry.out.splitlines()[0] == "Would erase from mini.safetensors:"
    assert [line for line in dry.out.splitlines() if line[0] in "✓✗–"] == lines[3:]
    assert cli("--quiet", recipe, checkpoint_file, target).out == ""


def test_on_a_terminal_the_first_line_is_there_at_once_and_no_line_wraps(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """What is read is named before anything slow is imported; the bars leave nothing behind."""
    leader, follower = pty.openpty()
    asked = map(str, (van_gogh, checkpoint_file, tmp_path / "o.safetensors"))
    command = [sys.executable, "-m", "erasepro_convert", *asked]
    environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
    running = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    parts = []
    while True:
        try:
            parts.append(os.read(leader, 65536))
        except OSError:  # the other end is closed
            break
    os.close(leader)
    assert running.wait() == 0
    assert parts[0].decode().strip() == "reading mini.safetensors ..."
    text = b"".join(parts).decode()
    assert "0:00 so far" in text
    final = ANSI.sub("", text[text.rindex("Erased from") :]).splitlines()
    assert len(final) <= 15
    assert all(cell_len(line) <= 80 for line in final)


@pytest.mark.slow
def test_the_documentation_shows_what_is_printed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for AutoV2, which another kind of processor may change."""
    page = Path("docs/verdict.md").read_text(encoding="utf-8")
    example = re.findall(r"```text\n(.*?)```", page, re.DOTALL)[0]
    copy_of_demo(tmp_path).rename(tmp_path / "demo.safetensors")
    monkeypatch.chdir(tmp_path)
    ran = cli("van-gogh", "demo.safetensors", "out.safetensors")
    digest = r"AutoV2 [0-9a-f]{10}"
    assert re.sub(digest, "", ran.out) == re.sub(digest, "", example)
