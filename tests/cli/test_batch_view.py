"""What a batch shows: at every width names and figures are whole, and a reason is short."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from erasepro_convert.batch.jobs import Job
from erasepro_convert.batch.ledger import Entry, InputRecord, Outcome
from erasepro_convert.batch.process_pool import Progress
from erasepro_convert.batch.worker import Task
from erasepro_convert.cli.batch_view import BatchView
from erasepro_convert.conversion.options import Options
from erasepro_convert.recipe import Recipe, load_recipe
from tests.conftest import VAN_GOGH

WIDTHS = (60, 80, 120)
LONG = "anime/collection/some-really-long-model-name-v4.5-pruned-fp16-no-ema-and-more.safetensors"
NAMES = ("a.safetensors", LONG, "模型/日本語の名前のモデル.safetensors")
REASON = (
    "old/inpaint.ckpt: not a Stable Diffusion 1.x checkpoint: 400 tensors are missing: "
    + ", ".join(f"model.diffusion_model.input_blocks.{n}.weight" for n in range(400))
    + ". It may be a part of one.\nwhat an earlier batch wrote there is of another input"
)
AT = Progress(1, 45, 100, 1_234_000_000, 2_133_000_000)
FIGURES = ("1.2 GB of 2.1 GB", "probing 45/100")
ZEROS = "0" * 64


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(VAN_GOGH)
    return load_recipe(path)


def jobs_of(recipe: Recipe) -> list[Job]:
    return [Job(recipe, Path("gone.ckpt"), name) for name in NAMES]


def entry(output: str, outcome: Outcome, reason: str | None = None) -> Entry:
    return Entry(
        output=output,
        outcome=outcome,
        reason=reason,
        tool="1",
        recipe="r",
        recipe_sha256=ZEROS,
        options_sha256=ZEROS,
        input=InputRecord(path="in", size=1, state=ZEROS, fingerprint=None, sha256=None),
        written=None,
        same_as=None,
        figures=None,
        worker="here:1",
        finished="2026-01-01T00:00:00+00:00",
        seconds=0.5,
    )


def joined(text: str) -> str:
    """Without what wrapping puts between the parts of a word."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("names", [NAMES, NAMES[:1], NAMES[1:2]])
def test_the_table_cuts_no_name_and_no_figure(
    recipe: Recipe, width: int, names: tuple[str, ...]
) -> None:
    jobs = jobs_of(recipe)
    view = BatchView(jobs, quiet=True)
    view.counts.update({"done": 231, "linked": 14, "refused": 12, "exceeded": 13})
    tasks = [Task(n, recipe, Path("in"), Path(n), Options()) for n in names]
    view.watch(lambda: [(task, AT) for task in tasks])
    console = Console(width=width, record=True, file=StringIO())
    console.print(view)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    first = text.splitlines()[0]
    assert first.startswith("270/3 files")
    assert joined("231 done, 14 linked, 12 refused, 13 exceeded") in joined(text)
    # Figures and bar stand beside the first line of a name.
    rest = re.sub("[━╸╺]", "", text.replace(FIGURES[0], "").replace(FIGURES[1], ""))
    assert all(name in joined(rest) for name in names)
    assert text.count(FIGURES[0]) == text.count(FIGURES[1]) == len(names)


def test_a_bar_is_there_where_it_has_room(recipe: Recipe) -> None:
    view = BatchView(jobs_of(recipe), quiet=True)
    task = Task("a.safetensors", recipe, Path("in"), Path("a"), Options())
    view.watch(lambda: [(task, AT)])
    bars = []
    for width in WIDTHS:
        console = Console(width=width, record=True, file=StringIO())
        console.print(view)
        bars.append(max(line.count("━") for line in console.export_text().splitlines()[1:]))
    assert 0 < bars[0] < bars[1] == bars[2]


@pytest.mark.parametrize("name", NAMES)
def test_elsewhere_a_reason_is_one_line_of_bounded_length(
    recipe: Recipe, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(recipe)
    view = BatchView(jobs, quiet=False)
    view.ended(jobs[NAMES.index(name)], entry(name, "refused", REASON), already_done=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"[1/3] refused   {name}  0.5 s  old/inpaint.ckpt: not a Stable Diffusion 1.x checkpoint: "
    )
    assert line.endswith("…")
    assert len(line) <= 200


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("in v1.5.ckpt: it is cut short. Fetch it again.", "in v1.5.ckpt: it is cut short."),
        ("the result does not hold:\n- leak of x: 0.9", "the result does not hold:"),
        ("a.ckpt: no such file", "a.ckpt: no such file"),
    ],
)
def test_a_reason_is_its_first_sentence(
    recipe: Recipe, reason: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(recipe)
    view = BatchView(jobs, quiet=False)
    view.ended(jobs[0], entry(NAMES[0], "refused", reason), already_done=False)
    assert capsys.readouterr().out == f"[1/3] refused   a.safetensors  0.5 s  {said}\n"


@pytest.mark.parametrize("width", WIDTHS)
def test_on_a_terminal_it_is_wrapped(
    recipe: Recipe,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    jobs = jobs_of(recipe)
    view = BatchView(jobs, quiet=False)
    view.ended(jobs[1], entry(LONG, "refused", REASON), already_done=False)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= width
    assert len(text) < 300
    assert joined(f"[1/3] refused {LONG} 0.5 s old/inpaint.ckpt: not a Stable") in joined(text)


def test_what_was_passed_over_is_counted(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of(recipe)
    passed = {"*.png": [f"{n}.png" for n in range(10_000)], "hidden": [".a.ckpt"]}
    view = BatchView(jobs, passed, quiet=False)
    view.ended(jobs[0], entry(NAMES[0], "refused", "it is empty"), already_done=False)
    view.print_summary(tmp_path)
    _, closing, over, _ = capsys.readouterr().out.splitlines()
    assert closing.startswith("3 files: 1 refused, 2 not begun, 10001 passed over, in ")
    assert over == "passed over: 10000 *.png, 1 hidden"
