"""``--lora``: the same erasure as a LoRA beside the checkpoint, or nothing of either."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasepro_convert import demo
from erasepro_convert.conversion import convert as convert_module
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.lora import make_lora
from erasepro_convert.conversion.options import Options
from erasepro_convert.conversion.preflight import prepare
from erasepro_convert.errors import LimitError, UsageError
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest, schema_json
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import silent
from erasepro_convert.sd1.kohya import kohya_names
from erasepro_convert.sd1.sd1_checkpoint import open_sd1_checkpoint
from erasepro_convert.storage.atomic import replacing_folder
from erasepro_convert.verification import verify
from tests.conftest import SHORT, VAN_GOGH, Cli
from tests.miniature import State, with_ema

LORA = "l.safetensors"


def run(recipe: Path | Recipe, source: Path, target: Path, **options: Any) -> Manifest:
    lora = options.pop("lora", target.with_name(LORA))
    return convert(recipe, source, target, Options(lora=lora, **options), silent)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".yaml")


@pytest.fixture(scope="module")
def made(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an output, its LoRA and its manifest; treat it as read-only."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "r.yaml").write_text(VAN_GOGH, encoding="utf-8")
    run(folder / "r.yaml", checkpoint_file, folder / "o.safetensors")
    return folder


def test_the_lora_has_the_changes_as_they_are_stored(made: Path, state: State) -> None:
    manifest = read_manifest(made / "o.manifest.json")
    assert manifest.lora
    output, lora = load_file(made / "o.safetensors"), load_file(made / LORA)
    errors, norms = [], []
    for edit in manifest.edits:
        module = kohya_names()[edit.name]
        up, down = (lora[f"{module}.lora_{part}.weight"].double() for part in ("up", "down"))
        product = lora[f"{module}.alpha"].double() / len(down) * up @ down
        change = output[edit.name].double() - state[edit.name].double()
        errors.append(torch.linalg.vector_norm(product - change))
        norms.append(torch.linalg.vector_norm(change))
    loss = manifest.lora.loss
    assert (loss.matrices, len(lora)) == (68, 3 * 69)  # and one that is zero
    overall = torch.stack(errors).norm() / torch.stack(norms).norm()
    assert float(overall) == pytest.approx(loss.overall, rel=1e-6)
    shares = torch.stack(errors) / torch.stack(norms)
    assert float(shares.max()) == pytest.approx(loss.worst, rel=1e-6)


def test_file_and_manifest_say_what_is_missing(made: Path, checkpoint_file: Path) -> None:
    manifest = read_manifest(made / "o.manifest.json")
    assert manifest.lora
    with safe_open(made / LORA, framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["erasepro.lora_loss"]) == manifest.lora.loss.model_dump()
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_dim"] == str(manifest.lora.loss.rank)
    assert int(metadata["ss_network_alpha"]) >= manifest.lora.loss.rank
    assert metadata["ss_sd_model_name"] == checkpoint_file.name
    assert metadata["ss_new_sd_model_hash"] == manifest.input.files[0].sha256
    assert "author" not in metadata  # who made the input did not make this
    jsonschema.validate(json.loads(manifest.to_json()), json.loads(schema_json()))


def test_the_same_run_gives_the_same_bytes_and_the_output_of_a_run_without(
    made: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    run(made / "r.yaml", checkpoint_file, tmp_path / "o.safetensors")
    assert (tmp_path / LORA).read_bytes() == (made / LORA).read_bytes()
    plain = run(made / "r.yaml", checkpoint_file, tmp_path / "p.safetensors", lora=None)
    assert (tmp_path / "p.safetensors").read_bytes() == (made / "o.safetensors").read_bytes()
    assert "lora" not in json.loads(plain.to_json())


def test_a_private_lora_has_no_word_of_the_recipe(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    run(van_gogh, checkpoint_file, tmp_path / "o.safetensors", private=True, lora_rank=2)
    content = (tmp_path / LORA).read_bytes().lower()
    assert b"gogh" not in content
    assert b'"ss_network_dim":"2","ss_network_module"' in content


def test_a_dry_run_writes_none_and_knows_its_digest(
    made: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "o.safetensors"
    manifest = run(made / "r.yaml", checkpoint_file, target, dry_run=True)
    assert manifest.lora == read_manifest(made / "o.manifest.json").lora
    assert names(tmp_path) == []


def test_a_folder_has_its_lora_beside_it(van_gogh: Path, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    lora = tmp_path / "loras" / LORA
    with demo.checkpoint() as model:
        run(van_gogh, model, tmp_path / "out", folder=True, lora=lora, lora_rank=1)
    assert names(tmp_path) == ["loras", "out"]
    assert names(lora.parent) == [LORA]
    assert verify(tmp_path / "out").findings == ()


def test_with_an_ema_copy_it_is_the_lora_of_the_unet(
    made: Path, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    save_file(with_ema(state), tmp_path / "in.safetensors")
    run(van_gogh, tmp_path / "in.safetensors", tmp_path / "o.safetensors", ema="convert")
    lora, expected = load_file(tmp_path / LORA), load_file(made / LORA)
    assert lora.keys() == expected.keys()
    assert all(torch.equal(lora[name], expected[name]) for name in lora)
    with pytest.raises(UsageError, match="--ema use takes another U-Net"):
        run(
            van_gogh, tmp_path / "in.safetensors", tmp_path / "u.safetensors", ema="use", force=True
        )


def test_a_lora_that_does_not_hold_is_refused_with_the_checkpoint(tmp_path: Path) -> None:
    """The checkpoint leaks 0.26 and keeps the limit of 0.5; with rank 1 the LoRA does not."""
    recipe, target = Path("recipes/demo/snoopy.yaml"), tmp_path / "o.safetensors"
    with demo.checkpoint() as model:
        with pytest.raises(LimitError, match=r"the result does not hold:\n- LoRA: leak is above"):
            run(recipe, model, target, lora_rank=1)
        assert names(tmp_path) == []
        dry = run(recipe, model, target, lora_rank=1, dry_run=True)
    assert dry.lora
    assert dry.lora.probe
    assert max(measure.mean for measure in dry.probe.leak) < 0.5
    assert max(measure.mean for measure in dry.lora.probe.leak) > 0.5
    assert [line.split(":")[0] for line in dry.exceeded] == ["LoRA"]


def test_where_nothing_was_changed_there_is_no_lora(checkpoint_file: Path) -> None:
    """As where every target had been erased from the input before."""
    erasure: Any = SimpleNamespace(weights={}, changes=())
    with pytest.raises(UsageError, match="no matrix was changed"):
        make_lora(open_sd1_checkpoint(checkpoint_file), erasure, None, silent)


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("esd-x", "biases"),
        ("esd-u", "biases, norms and convolutions"),
        ("ac", None),
    ],
)
def test_what_is_trained_beyond_matrices_is_refused_before_any_work(
    method: str,
    trained: str | None,
    make_recipe: Callable[[str], Recipe],
    checkpoint_file: Path,
    tmp_path: Path,
) -> None:
    recipe, options = make_recipe(f"{SHORT}method: {method}\n"), Options(lora=tmp_path / LORA)
    if trained is None:
        assert prepare(recipe, checkpoint_file, tmp_path / "o.safetensors", options)
        return
    with pytest.raises(UsageError, match=rf"{method} with .* trains {trained} too"):
        prepare(recipe, checkpoint_file, tmp_path / "o.safetensors", options)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("o.safetensors", {"lora": "o.safetensors"}, "two outputs cannot be one file"),
        (
            "o.safetensors",
            {"lora": "o.manifest.safetensors/../o.safetensors"},
            "folder|two outputs",
        ),
        (
            "o.safetensors",
            {"lora": "in.safetensors"},
            "would replace .*in.safetensors, which is read",
        ),
        ("o.safetensors", {"lora": "l.pt"}, r"must end in \.safetensors"),
        ("o.safetensors", {"lora": "none/l.safetensors"}, "its folder does not exist"),
        ("o.safetensors", {"lora": "there.safetensors"}, "exists already; --force replaces it"),
        ("o.safetensors", {"lora": "empty"}, r"must end in \.safetensors"),
        ("o.safetensors", {"lora": "d.safetensors"}, "this is a folder"),
        ("o.safetensors", {"lora": None, "lora_rank": 4}, "--lora-rank goes with --lora"),
        ("empty/", {"lora": "empty/l.safetensors"}, "this lies in OUT"),
        ("s3://bucket/o.safetensors", {}, "--lora is for an output that is here"),
    ],
)
def test_places_that_work_for_no_lora(
    target: str,
    options: dict[str, Any],
    message: str,
    van_gogh: Path,
    checkpoint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "in.safetensors").symlink_to(checkpoint_file)
    (tmp_path / "there.safetensors").write_bytes(b"precious")
    for folder in ("empty", "d.safetensors"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    asked = {"lora": "l.safetensors", **options}
    lora = Path(asked.pop("lora")) if asked["lora"] else None
    asked.pop("lora", None)
    with pytest.raises(UsageError, match=message):
        convert(van_gogh, "in.safetensors", target, Options(lora=lora, **asked), silent)
    assert names(tmp_path) == before
    assert (tmp_path / "there.safetensors").read_bytes() == b"precious"


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_at_the_end_leaves_neither(
    folder: bool,
    van_gogh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "build_manifest", fail)
    (tmp_path / LORA).write_bytes(b"of before")
    with demo.checkpoint() as model, pytest.raises(KeyboardInterrupt):
        run(van_gogh, model, tmp_path / "o.safetensors", folder=folder, force=True)
    assert names(tmp_path) == [LORA]
    assert (tmp_path / LORA).read_bytes() == b"of before"


def test_what_goes_with_a_folder_appears_with_it_or_not_at_all(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    for _ in range(2):
        with replacing_folder(tmp_path / "folder", beside) as (folder, (file,)):
            file.write(b"content")
            (folder / "a").touch()
            assert names(tmp_path)[0].startswith(".beside.")
        assert names(tmp_path) == ["beside", "folder"]
        beside.write_bytes(b"of before")
        # A folder that is not empty does not give way, and then nothing does.
        with (
            pytest.raises(OSError, match="not empty"),
            replacing_folder(tmp_path / "folder", beside) as (_, (file,)),
        ):
            file.write(b"other")
        assert beside.read_bytes() == b"of before"
        assert names(tmp_path) == ["beside", "folder"]
        (tmp_path / "folder" / "a").unlink()


def test_verification_finds_a_changed_lora_and_misses_none(made: Path, tmp_path: Path) -> None:
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target, lora = tmp_path / "o.safetensors", tmp_path / LORA
    verified = verify(target)
    assert (verified.findings, verified.lora) == ((), lora)
    content = bytearray(lora.read_bytes())
    content[-1] ^= 1
    lora.write_bytes(content)
    assert {f.place for f in verify(target).findings} == {f"{LORA}: SHA-256", f"{LORA}: AutoV3"}
    assert {finding.kind for finding in verify(target).findings} == {"lora"}
    assert verify(target, tensors_only=True).findings == ()
    lora.unlink()
    verified = verify(target)
    assert (verified.findings, verified.lora) == ((), None)


@pytest.mark.parametrize("name", ["../l.safetensors", "a\\l.safetensors", "l.txt", ".."])
def test_a_manifest_names_no_lora_elsewhere(name: str, made: Path, tmp_path: Path) -> None:
    text = (made / "o.manifest.json").read_text("utf-8")
    record = json.loads(text)
    record["lora"]["file"]["name"] = name
    (tmp_path / "o.manifest.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match=r"not a manifest: lora\.file\.name"):
        read_manifest(tmp_path / "o.manifest.json")


def test_the_command_says_what_the_lora_holds(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target, lora = tmp_path / "o.safetensors", tmp_path / LORA
    ran = cli(van_gogh, checkpoint_file, target, "--lora", lora, "--lora-rank", 2)
    assert ran.code == 0
    place, loss = (line for line in ran.out.splitlines() if "LoRA" in line)
    manifest = read_manifest(manifest_path(target))
    assert manifest.lora
    assert re.fullmatch(rf"wrote {re.escape(str(lora))} \(.* kB, a LoRA of rank 2\)", place)
    stated = manifest.lora.loss
    assert loss == (
        f"the LoRA lacks {stated.overall:.2%} of all changes, at most {stated.worst:.2%} of one"
    )
    shown = cli("verify", target)
    assert shown.out.endswith(f"{LORA}: the LoRA that the manifest says\n")
    ran = cli(van_gogh, checkpoint_file, target, "--lora", lora, "--dry-run")
    assert f"would write {lora}" in ran.out


def test_a_lora_without_loss_has_no_measures_of_its_own(made: Path) -> None:
    manifest = read_manifest(made / "o.manifest.json")
    assert manifest.lora
    assert manifest.lora.loss.exact == manifest.lora.loss.matrices
    assert manifest.lora.probe is None  # it is the checkpoint's
    assert manifest.lora.file.autov3
