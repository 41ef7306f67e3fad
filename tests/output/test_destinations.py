"""Nothing that is read is written, by any name, in any command; bad places are named first."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from erasepro_convert.batch.jobs import Job, require_apart
from erasepro_convert.batch.ledger import Entry, Ledger
from erasepro_convert.batch.scheduler import Batch
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.output.destinations import LONGEST_NAME, Inputs, put, put_all, require_outputs
from erasepro_convert.recipe import load_recipe
from erasepro_convert.storage.location import locate
from tests.conftest import VAN_GOGH, Cli

ROOT = Path(__file__).parents[2]
UNET = "unet/diffusion_pytorch_model.safetensors"
PRECIOUS = b"precious"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe, a checkpoint, a text encoder and a folder of each kind: no sound ones."""
    (tmp_path / "r.yaml").write_text(VAN_GOGH)
    for name in (
        "in.safetensors",
        "te.safetensors",
        "key.safetensors",
        "base.sft",
        f"model/{UNET}",
        "texts/model.safetensors",
        "blobs/deadbeef.safetensors",
        "elsewhere/x.safetensors",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PRECIOUS)
    (tmp_path / "cached.safetensors").symlink_to("blobs/deadbeef.safetensors")
    (tmp_path / "texts/linked").symlink_to("../elsewhere")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, object]:
    """All that lies there."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, checkpoint_file: Path) -> str:
    """What a dry run says, for a command that reads a manifest."""
    recipe = tmp_path_factory.mktemp("manifest") / "r.yaml"
    recipe.write_text(VAN_GOGH)
    target, options = recipe.with_name("o.safetensors"), Options(dry_run=True)
    return convert(load_recipe(recipe), checkpoint_file, target, options, silent).to_json()


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def link(kind: Callable[[str, str], None], old: str, new: str) -> Callable[[], None]:
    return lambda: kind(old, new)


@pytest.mark.parametrize("options", [("--force",), ("--dry-run",)])
@pytest.mark.parametrize(
    ("source", "target", "more", "prepare"),
    [
        ("in.safetensors", "te.safetensors", ["--text-encoder", "te.safetensors"], None),
        ("in.safetensors", "texts/model.safetensors", ["--text-encoder", "texts"], None),
        ("in.safetensors", "texts/new.safetensors", ["--text-encoder", "texts"], None),
        ("in.safetensors", "elsewhere/x.safetensors", ["--text-encoder", "texts"], None),
        ("in.safetensors", "elsewhere/new.safetensors", ["--text-encoder", "texts"], None),
        ("in.safetensors", "empty/../in.safetensors", [], None),
        ("in.safetensors", "key.safetensors", ["--sign", "key.safetensors"], None),
        (
            "in.safetensors",
            "te.safetensors",
            ["--sign", "key.safetensors", "--certificate", "te.safetensors"],
            None,
        ),
        (
            "in.safetensors",
            "te.safetensors",
            ["--sign", "key.safetensors", "--chain", "te.safetensors"],
            None,
        ),
        ("in.safetensors", "r.safetensors", [], link(os.link, "r.yaml", "r.safetensors")),
        ("in.safetensors", "o.safetensors", [], link(os.symlink, "r.yaml", "o.manifest.json")),
        (
            "in.safetensors",
            "o.safetensors",
            ["--sign", "key.safetensors"],
            link(os.symlink, "key.safetensors", "o.sig"),
        ),
        ("cached.safetensors", "cached.safetensors", [], None),
        ("cached.safetensors", "blobs/deadbeef.safetensors", [], None),
        ("model", f"model/{UNET}", [], None),
        ("model", "model/new.safetensors", [], None),
        ("model", "model/", [], None),
        ("model", "model/empty/", [], lambda: os.mkdir("model/empty")),
        ("model", "u.safetensors", [], link(os.link, f"model/{UNET}", "u.safetensors")),
        (f"model/{UNET}", "model/", [], None),
        (f"model/{UNET}", "model/unet/", [], None),
    ],
)
def test_a_conversion_never_writes_what_it_reads(
    here: Path,
    cli: Cli,
    source: str,
    target: str,
    more: list[str],
    prepare: Callable[[], None] | None,
    options: tuple[str, ...],
) -> None:
    if prepare:
        prepare()
    before = content(here)
    ran = cli(*options, *more, "r.yaml", source, target)
    assert ran.code == 2
    assert "which is read" in ran.err
    assert content(here) == before


def test_a_training_keeps_its_state_apart(here: Path, cli: Cli) -> None:
    """It would be taken for a state, and the advice would be to delete it."""
    Path("t.yaml").write_text(
        VAN_GOGH.replace("tolerance: 0\nretain: {weight: 0}", "method: esd-x")
    )
    os.rename("in.safetensors", "o.training.safetensors")
    ran = cli("--force", "t.yaml", "o.training.safetensors", "o.safetensors")
    assert ran.code == 2
    assert "this would replace o.training.safetensors, which is read" in ran.err
    assert Path("o.training.safetensors").read_bytes() == PRECIOUS


@pytest.mark.slow
def test_a_name_that_comes_to_be_an_input_meanwhile(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    os.link(checkpoint_file, source)

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "erase" and not target.exists():
            target.symlink_to(source)  # a hard link would show as a change of the input

    with pytest.raises(UsageError, match=r"this would replace .*in\.safetensors, which is read"):
        convert(load_recipe(van_gogh), source, target, Options(force=True), progress)
    assert target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir() if path != van_gogh) == [
        "in.safetensors",
        "out.safetensors",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("report", "m.manifest.json", "--out", "m.html"),
        ("report", "m.manifest.json", "--out", "m.png"),
        ("preview", "in.safetensors", "--base", "base.sft", "--recipe", "r.yaml", "--out", "m.png"),
        ("preview", "model", "--base", "base.sft", "--recipe", "r.yaml", "--out", "model/m.png"),
        ("evaluate", "r.yaml", "in.ckpt", "--base", "base.sft", "--prompts", "in.evaluation.csv"),
        ("evaluate", "r.yaml", "in.ckpt", "--base", "base.sft", "--dataset", "in.evaluation.csv"),
        ("evaluate", "c.yaml", "in.ckpt", "--base", "base.sft"),
        ("evaluate", "r.yaml", "in.ckpt", "--base", "in.evaluation.csv"),
        ("stress", "r.yaml", "in.safetensors", "--base", "base.csv", "--out", "base.csv"),
        ("stress", "r.csv", "in.safetensors", "--base", "base.sft", "--out", "r.csv"),
        ("stress", "r.yaml", "in.csv", "--base", "base.sft", "--out", "./in.csv"),
        ("stress", "in.stress.json", "in.safetensors", "--base", "base.sft"),
        ("compare", "cmp/comparison.md", "in.safetensors", "--out", "cmp"),
        ("compare", "r.yaml", "cmp/erasepro.cost.json", "--out", "cmp"),
        ("compare", "r.yaml", "model", "--out", "model/cmp"),
    ],
)  # fmt: skip
def test_no_command_writes_what_it_reads(
    here: Path, cli: Cli, manifest: str, words: tuple[str, ...]
) -> None:
    for old, new in (
        ("in.safetensors", "in.ckpt"),
        ("in.safetensors", "in.csv"),
        ("base.sft", "base.csv"),
        ("r.yaml", "r.csv"),
        ("r.yaml", "in.stress.json"),
    ):
        os.link(old, new)
    Path("in.evaluation.csv").write_bytes(PRECIOUS)
    Path("c.yaml").write_text(VAN_GOGH + "evaluate: {csv: in.evaluation.csv}\n")
    os.mkdir("cmp")
    Path("cmp/comparison.md").write_text(VAN_GOGH)
    Path("cmp/erasepro.cost.json").write_bytes(PRECIOUS)
    made = Path("m.manifest.json")
    made.write_text(manifest)
    Path("m.html").symlink_to(made)
    os.link(made if words[0] == "report" else "in.safetensors", "m.png")
    before = content(here)
    ran = cli(*words)
    assert ran.code == 2
    assert "which is read" in ran.err
    assert content(here) == before


@pytest.mark.slow
def test_what_a_link_leads_to_stays(here: Path, cli: Cli, manifest: str) -> None:
    """The link is replaced, as every output is that was there."""
    Path("o.manifest.json").write_text(manifest)
    Path("o.html").symlink_to("in.safetensors")
    assert cli("report", "o.manifest.json").code == 2
    assert cli("report", "o.manifest.json", "--force").code == 0
    assert Path("in.safetensors").read_bytes() == PRECIOUS
    assert not Path("o.html").is_symlink()
    assert Path("o.html").read_text("utf-8").startswith("<!doctype html>")


def test_the_demo_replaces_links_and_not_what_they_lead_to(
    here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as its first command, which fails here over a signature."""
    Path("empty/demo.safetensors").symlink_to("../in.safetensors")
    Path("empty/recipe.yaml").symlink_to("../r.yaml")
    Path("empty/erased.sig").touch()
    assert cli("demo", "empty", "--force").code == 2
    assert Path("in.safetensors").read_bytes() == PRECIOUS
    assert Path("r.yaml").read_text() == VAN_GOGH
    assert Path("empty/demo.safetensors").stat().st_size > 10**7


def test_objects_are_told_apart_by_their_addresses() -> None:
    pytest.importorskip("s3fs")
    inputs = Inputs([locate("s3://b/model/"), locate("s3://b/in.safetensors?versionId=1")])
    for taken in ("s3://b/model/unet/x.safetensors", "s3a://b/in.safetensors", "s3://b/model"):
        with pytest.raises(UsageError, match="which is read"):
            inputs.require_apart(locate(taken))
    for free in ("s3://b/models/x", "s3://b/model.safetensors", "s3://c/in.safetensors"):
        inputs.require_apart(locate(free))
    inputs.require_apart(Path("b/in.safetensors"))


def test_what_is_apart(here: Path) -> None:
    inputs = Inputs([here / "model", here / "in.safetensors", here / "gone.ckpt", None])
    inputs.require_apart(here / "out.safetensors", here / "models", here / "empty/in.safetensors")
    with pytest.raises(UsageError, match=r"would replace .*gone\.ckpt"):
        inputs.require_apart(here / "empty" / ".." / "gone.ckpt")


def test_links_that_lead_back_up_end(here: Path) -> None:
    (here / "model/up").symlink_to("..")
    with pytest.raises(UsageError, match=r"this lies in .*model, which is read"):
        Inputs([here / "model"]).require_apart(here / "empty/new.safetensors")


def test_another_mount_is_no_other_file(here: Path) -> None:
    """A bind mount gives a file a path that has nothing in common with its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from erasepro_convert.output.destinations import Inputs\n"
        "Inputs([Path('model')]).require_apart(Path(sys.argv[1]))"
    )
    script = f'mount --bind model empty || exit 77; exec "{sys.executable}" -c "$0" "$1"'
    for written in (f"empty/{UNET}", "empty/new.safetensors"):
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            ran = subprocess.run(
                [*command, code, written],
                check=False,
                capture_output=True,
                text=True,
                env=environment,
            )
        except FileNotFoundError:
            pytest.skip("no unshare")
        if ran.returncode == 77 or ran.stderr.startswith("unshare:"):
            pytest.skip("nothing can be mounted here")
        assert f"{written}: this" in ran.stderr.splitlines()[-1]
        assert "which is read" in ran.stderr


# places that cannot be written to --------------------------------------------------------------


def make(path: str, kind: str) -> None:
    """Put something of a kind there."""
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
    elif kind == "device":
        os.symlink("/dev/null", path)
    else:
        Path(path).write_bytes(PRECIOUS)


LONG = "x" * LONGEST_NAME


@pytest.mark.parametrize(
    ("target", "there", "message"),
    [
        ("o.safetensors", "folder", "o.safetensors: this is a folder; name a file in it, or end"),
        ("o.safetensors", "pipe", "o.safetensors: this is a pipe; give the output another name"),
        ("o.safetensors", "socket", "o.safetensors: this is a socket;"),
        ("o.safetensors", "device", "o.safetensors: this is a device;"),
        ("o.manifest.json", "folder", "o.manifest.json: this is a folder; give"),
        ("o.sig", "folder", "o.sig: this is a folder; give"),
        ("o.safetensors/", "file", "o.safetensors/: this is a file, and OUT that ends in / is"),
        ("gone/o.safetensors", "", "gone/o.safetensors: its folder does not exist"),
        ("gone/o/", "", "gone/o: its folder does not exist"),
        ("r.yaml/o.safetensors", "", "r.yaml/o.safetensors: r.yaml is a file, not a folder"),
        (f"{LONG}.safetensors", "", f"{LONG}.safetensors: a name of more than 230 bytes"),
        (f"{LONG * 2}/o.safetensors", "", "/o.safetensors: its name is too long"),
        (f"{LONG}x/", "", f"{LONG}x: a name of more than 230 bytes"),
        ("model/../model/", "", "model/../model: exists already; remove it first"),
    ],
)
def test_what_is_in_the_way_is_named_before_the_work(
    here: Path, cli: Cli, target: str, there: str, message: str
) -> None:
    if there:
        make(target.rstrip("/"), there)
    out = target.replace(".manifest.json", ".safetensors").replace(".sig", ".safetensors")
    signed = ("--sign", "key.safetensors") if target == "o.sig" else ()
    source = "te.safetensors"  # no checkpoint: what is said of it comes after the work has begun
    ran = cli("--force", *signed, "r.yaml", source, out)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_every_command_looks_at_its_outputs_first(here: Path, cli: Cli, kind: str) -> None:
    model = ("in.safetensors", "--base", "base.sft")
    make("o.png", kind)
    make("o.csv", kind)
    make("in.evaluation.csv", kind)
    os.mkdir("cmp")
    make("cmp/comparison.json", kind)
    for words, name in {
        ("preview", *model, "--recipe", "r.yaml", "--out", "o.png"): "o.png",
        ("evaluate", "r.yaml", *model): "in.evaluation.csv",
        ("stress", "r.yaml", *model, "--out", "o.csv"): "o.csv",
        ("compare", "r.yaml", "in.safetensors", "--out", "cmp"): "cmp/comparison.json",
    }.items():
        ran = cli(*words)
        assert ran.code == 2
        assert f"{name}: this is a {kind}; give the output another name" in ran.err


OUTPUTS = {
    ("r.yaml", "base.sft", "o.safetensors"): "o.manifest.json",
    ("preview", "in.safetensors", "--base", "base.sft", "--recipe", "r.yaml"): (
        "in.before-after.png"
    ),
    ("evaluate", "r.yaml", "in.safetensors", "--base", "base.sft"): "in.evaluation.png",
    ("evaluate", "r.yaml", "in.safetensors", "--base", "base.sft", "--out", "o.csv"): "o.csv",
    ("stress", "r.yaml", "in.safetensors", "--base", "base.sft"): "in.stress.json",
    ("compare", "r.yaml", "in.safetensors"): "in.comparison/comparison.md",
    ("report", "m.manifest.json"): "m.html",
    ("report", "m.manifest.json", "--out", "m.png"): "m.png",
    ("demo", "empty"): "empty/recipe.yaml",
}


@pytest.mark.parametrize("words", OUTPUTS)
@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_what_exists_is_not_replaced_without_force(
    here: Path, cli: Cli, manifest: str, words: tuple[str, ...], kind: str
) -> None:
    """No checkpoint is one here: what is said of them comes after the work has begun."""
    Path("m.manifest.json").write_text(manifest)
    place = Path(OUTPUTS[words])
    place.parent.mkdir(exist_ok=True)
    if kind == "file":
        place.write_bytes(PRECIOUS)
    else:
        place.symlink_to(here / ("key.safetensors" if kind == "link" else "gone"))
    before = content(here)
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {place}: exists already; --force replaces it\n"
    assert content(here) == before


def test_a_shard_draws_whatever_results_there_are(here: Path, cli: Cli) -> None:
    """Those are of a run that comes when all shards are drawn."""
    Path("in.evaluation.json").write_bytes(PRECIOUS)
    ran = cli("evaluate", "r.yaml", "in.safetensors", "--base", "base.sft", "--shard", "1/2")
    assert "exists already" not in ran.err


def test_pictures_are_png(here: Path, cli: Cli) -> None:
    ran = cli(
        "preview", "in.safetensors", "--base", "base.sft", "--recipe", "r.yaml", "--out", "o.yaml"
    )
    assert (ran.code, ran.err) == (2, "error: o.yaml: the file's name must end in .png\n")


def test_two_outputs_are_two_files(here: Path) -> None:
    (here / "link").symlink_to("o.json")
    for twin in ("./o.json", "link"):
        with pytest.raises(UsageError, match="two outputs cannot be one file"):
            require_outputs([Path("o.json"), Path(twin)], Inputs([]), force=True)


def test_put_is_whole_or_not_at_all_and_looks_again(here: Path) -> None:
    inputs = Inputs([here / "in.safetensors"])
    put(here / "o.json", b"{}", inputs)
    assert (here / "o.json").read_bytes() == b"{}"
    os.replace("in.safetensors", "o.json")  # while the work went on
    with pytest.raises(UsageError, match="which is read"):
        put(here / "o.json", b"[]", inputs)
    assert (here / "o.json").read_bytes() == PRECIOUS


def test_several_are_put_all_or_none(here: Path) -> None:
    old, new, blocked = here / "old.json", here / "new.json", here / "z.json"
    old.write_bytes(b"old")
    (blocked / "in the way").mkdir(parents=True)
    before = content(here)
    for places in ((old, new, blocked), (new, blocked, old), (blocked, old)):
        with pytest.raises(OSError, match=r"z\.json"):
            put_all(dict.fromkeys(places, b"all"), Inputs([]))
        assert content(here) == before
    put_all({old: b"1", new: b"2"}, Inputs([]))
    assert (old.read_bytes(), new.read_bytes()) == (b"1", b"2")
    assert content(here).keys() == before.keys() | {"new.json"}


def test_without_hard_links_they_are_put_all_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    for text in (b"1", b"2"):
        put_all(dict.fromkeys((here / "a.json", here / "b.json"), text), Inputs([]))
    assert (here / "b.json").read_bytes() == b"2"


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no links here")


# batches ---------------------------------------------------------------------------------------


def write_jobs(*pairs: tuple[str, str]) -> None:
    lines = [f"- {{recipe: r.yaml, input: {given}, output: {out}}}" for given, out in pairs]
    Path("jobs.yaml").write_text("\n".join(["version: 1", "jobs:", *lines, ""]))


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        ("r.yaml in.safetensors --out out", "in.safetensors", "out/in-r.safetensors"),
        (
            "r.yaml base.sft te.safetensors --out out",
            "te.safetensors",
            "out/base-r.safetensors",
        ),
        (
            "r.yaml base.sft blobs --out out",
            "blobs/deadbeef.safetensors",
            "out/base-r.safetensors",
        ),
        ("r.yaml base.sft model --out out", f"model/{UNET}", "out/base-r.safetensors"),
        ("r.yaml base.sft --out out", "r.yaml", "out/base-r.manifest.json"),
        ("r.yaml base.sft --out out", "r.yaml", "out/batch.html"),
        ("r.yaml base.sft --out out", "base.sft", "out/batch.manifest.jsonl"),
        ("r.yaml --list list.txt --out out", "list.txt", "out/batch.html"),
        (
            "r.yaml base.sft --text-encoder te.safetensors --out out",
            "te.safetensors",
            "out/base-r.safetensors",
        ),
        ("r.yaml model --out model/clean", "", ""),
        ("r.yaml model --out out --name {stem}/", f"model/{UNET}", "out/model/manifest.json"),
        ("jobs.yaml --out .", "", ""),
        ("jobs.yaml --out out", "jobs.yaml", "out/x.safetensors"),
        ("jobs.yaml --out out", "r.yaml", "out/x.manifest.json"),
    ],
)
@pytest.mark.parametrize("kind", [os.link, os.symlink])
def test_a_batch_never_writes_what_it_reads(
    here: Path,
    cli: Cli,
    words: str,
    old: str,
    new: str,
    kind: Callable[[str, str], None],
) -> None:
    """Before anything starts; an output of one job is no input of another either."""
    write_jobs(("in.safetensors", "x.safetensors"), ("gone.ckpt", "y.safetensors"))
    if words.endswith(" ."):
        write_jobs(("in.safetensors", "gone.safetensors"), ("gone.safetensors", "y.safetensors"))
    Path("list.txt").write_text("base.sft\n")
    if old:
        (here / new).parent.mkdir(parents=True)
        kind(str(here / old), new)
    before = content(here)
    ran = cli("batch", "--force", *words.split())
    assert ran.code == 2
    assert "which is read" in ran.err
    assert content(here) == before


def test_a_batch_looks_again_before_each_job(here: Path, cli: Cli) -> None:
    """The others go on: there is no sound checkpoint among these, which is said of each."""
    os.mkdir("out")
    write_jobs(("base.sft", "x.safetensors"), ("in.safetensors", "y.safetensors"))
    recipe, options = load_recipe(here / "r.yaml"), Options(force=True)
    jobs = [
        Job(recipe, here / "base.sft", "x.safetensors"),
        Job(recipe, here / "in.safetensors", "y.safetensors"),
    ]
    ended: dict[str, str | None] = {}

    class Viewer:
        def began(self, job: Job) -> None:
            pass

        def ended(self, job: Job, entry: Entry, *, already_done: bool) -> None:
            ended[job.output] = entry.reason

    inputs = require_apart(jobs, here / "out", None, options)
    os.symlink(here / "in.safetensors", "out/x.safetensors")
    with closing(Ledger(here / "out")) as ledger, ThreadPoolExecutor(1) as threads:
        batch = Batch(jobs, here / "out", ledger, options, inputs, Viewer())
        batch.run(lambda: threads, 1)
    assert "would replace" in str(ended["x.safetensors"])
    assert "in.safetensors, which is read" in str(ended["x.safetensors"])
    assert str(ended["y.safetensors"]).startswith("in.safetensors: ")
    assert Path("in.safetensors").read_bytes() == PRECIOUS
    assert Path("out/x.safetensors").is_symlink()


@pytest.mark.slow
def test_a_batch_counts_and_lists_what_it_passes_over(here: Path, cli: Cli) -> None:
    os.mkdir("m")
    for name in ("A.SAFETENSORS", "b.sft", "c.bin", "d.gguf", "notes.txt", "out/x.safetensors"):
        Path("m", name).parent.mkdir(exist_ok=True)
        Path("m", name).write_bytes(PRECIOUS)
    ran = cli("batch", "r.yaml", "m", "--out", "m/out", "--jobs", 1)
    assert ran.code == 4
    *lines, closing_line, over, _ = ran.out.splitlines()
    assert [line.split()[2] for line in lines] == [
        "A-r.safetensors",
        "b-r.safetensors",
        "c-r.safetensors",
    ]
    assert closing_line.startswith("3 files: 3 refused, 3 passed over, in ")
    assert over == "passed over: 1 *.gguf, 1 *.txt, 1 output folder"
    page = Path("m/out/batch.html").read_text("utf-8")
    assert "<td>*.gguf</td><td>m/d.gguf</td>" in page


@pytest.mark.slow
def test_names_in_capitals_in_a_folder_that_takes_them_for_the_same(here: Path, cli: Cli) -> None:
    """Such a folder shows a file under both names, as one with this link does."""
    os.mkdir("m")
    for name in ("a.ckpt", "A.sft"):
        Path("m", name).write_bytes(PRECIOUS)
    os.mkdir("out")
    Path("out/batch.manifest.jsonl").touch()
    os.link("out/batch.manifest.jsonl", "out/BATCH.MANIFEST.JSONL")
    ran = cli("batch", "r.yaml", "m", "--out", "out")
    assert ran.code == 2
    assert "several jobs would write a-r.safetensors (of m/A.sft and m/a.ckpt); --name" in ran.err
    os.unlink("out/BATCH.MANIFEST.JSONL")
    assert cli("batch", "r.yaml", "m", "--out", "out").code == 4
