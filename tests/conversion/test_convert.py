"""The whole job on a miniature: what is in the output, what the manifest says, what is refused."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasepro_convert import manifest as manifest_module
from erasepro_convert.checkpoint import safetensors_file
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import CheckpointError, LimitError
from erasepro_convert.manifest import Manifest, schema_json
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.sd1.keys import PREDICTION_MARKERS
from tests.conftest import Cli
from tests.miniature import State, state_dict, with_ema

MakeRecipe = Callable[[str], Recipe]


def run(recipe: Path | Recipe, source: Path, target: Path, **options: object) -> Manifest:
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    return convert(loaded, source, target, Options(**options), lambda *_: None)  # type: ignore[arg-type]


def read_metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


CONTAINERS: dict[str, Callable[[State, Path], None]] = {
    "safetensors": save_file,
    "torch zip": lambda state, path: torch.save({"state_dict": state, "epoch": 1}, path),
    "torch legacy": lambda state, path: torch.save(
        {"state_dict": state, "epoch": 1}, path, _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_weights(
    container: str, van_gogh: Path, checkpoint_file: Path, state: State, tmp_path: Path
) -> None:
    """From any container, with EMA beside the weights, the same tensors come out."""
    source = tmp_path / "in.ckpt"
    CONTAINERS[container](with_ema(state), source)
    manifest = run(van_gogh, source, tmp_path / "out.safetensors")
    assert manifest.input.files[0].container == container
    run(van_gogh, checkpoint_file, tmp_path / "plain.safetensors")
    plain, output = (load_file(tmp_path / f"{name}.safetensors") for name in ("plain", "out"))
    assert set(output) == set(state)
    assert all(torch.equal(output[name], plain[name]) for name in plain)


@pytest.mark.slow
def test_untouched_tensors_are_bit_identical(
    van_gogh: Path, checkpoint_file: Path, state: State, tmp_path: Path
) -> None:
    manifest = run(van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    output = load_file(tmp_path / "out.safetensors")
    edited = {edit.name for edit in manifest.edits}
    assert len(edited) == 68
    for name, value in output.items():
        same = torch.equal(
            value.flatten().view(torch.uint8), state[name].flatten().view(torch.uint8)
        )
        assert same == (name not in edited)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")]
)
def test_dtype_changes_every_floating_tensor(
    asked: str, dtype: str, van_gogh: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.safetensors"
    half = state_dict(dtype="fp16")
    save_file(half, source)
    manifest = run(van_gogh, source, tmp_path / "out.safetensors", dtype=asked)
    output = load_file(tmp_path / "out.safetensors")
    edited = {edit.name for edit in manifest.edits}
    for name, value in output.items():
        if half[name].is_floating_point():
            assert value.dtype == getattr(torch, dtype)
            assert name in edited or torch.equal(value, half[name].to(value.dtype))
        else:
            assert value.dtype == half[name].dtype
    assert manifest.tensors.dtype == asked


@pytest.mark.slow
def test_mixed_dtypes_are_kept_each_as_it_is(van_gogh: Path, state: State, tmp_path: Path) -> None:
    mixed = {
        name: value.half() if "attn2" in name else value.bfloat16() if "mlp" in name else value
        for name, value in state.items()
    }
    save_file(mixed, tmp_path / "in.safetensors")
    run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    output = load_file(tmp_path / "out.safetensors")
    assert {name: v.dtype for name, v in output.items()} == {n: v.dtype for n, v in mixed.items()}


@pytest.mark.slow
def test_values_too_large_for_the_asked_dtype_are_refused(
    van_gogh: Path, state: State, tmp_path: Path
) -> None:
    large = {**state, "model.diffusion_model.out.2.bias": torch.full((4,), 1e5)}
    save_file(large, tmp_path / "in.safetensors")
    with pytest.raises(LimitError, match=r"out\.2\.bias .* too large for F16"):
        run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors", dtype="fp16")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.slow
@pytest.mark.parametrize("stated", ["pt", "np", "flax", ""])
def test_the_format_is_always_torchs(
    stated: str, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    """Transformers before 5 refuses other words, and takes some for another library's weights."""
    save_file(state, tmp_path / "in.safetensors", metadata={"format": stated})
    run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert read_metadata(tmp_path / "out.safetensors")["format"] == "pt"


@pytest.mark.slow
def test_an_edit_that_overflows_is_refused(van_gogh: Path, state: State, tmp_path: Path) -> None:
    name = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    huge = {**state, name: state[name] * 1e38}
    save_file(huge, tmp_path / "in.safetensors")
    with pytest.raises(LimitError, match=r"does not fit into F16: .* or --dtype fp32"):
        run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors", dtype="fp16")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: str, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    """Wherever they stand: one in a text layer, one in the VAE, which is only copied."""
    names = [
        "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.bias",
        "first_stage_model.decoder.conv_out.weight",
    ]
    damaged = {name: state[name].clone() for name in names}
    for tensor in damaged.values():
        tensor.view(-1)[-1] = float(value)
    save_file({**state, **damaged}, tmp_path / "in.safetensors")
    with pytest.raises(CheckpointError, match="2 of its tensors hold NaN or infinite") as refusal:
        run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert all(name in str(refusal.value) for name in names)
    assert not list(tmp_path.glob("*out*"))


def test_features_that_overflow_are_refused(van_gogh: Path, state: State, tmp_path: Path) -> None:
    name = "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
    huge = {**state, name: state[name].double() * 1e305}
    save_file(huge, tmp_path / "in.safetensors")
    with pytest.raises(CheckpointError, match=r"text_encoder\.5 are not finite"):
        run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Twice, with one thread and with two: outputs equal, manifests but for the part named so."""
    manifests: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 1, 2):
            torch.set_num_threads(threads)
            target = tmp_path / f"{len(manifests)}" / "out.safetensors"
            target.parent.mkdir()
            run(van_gogh, checkpoint_file, target)
            manifests.append(json.loads(target.with_suffix(".manifest.json").read_text()))
            assert torch.get_num_threads() == threads, "left as it was"
    finally:
        torch.set_num_threads(before)
    contents = {(tmp_path / str(i) / "out.safetensors").read_bytes() for i in range(3)}
    assert len(contents) == 1
    for manifest in manifests:
        assert manifest.pop("varies_between_runs")["seconds"] > 0
    assert manifests[0] == manifests[1] == manifests[2]


@pytest.mark.slow
def test_thread_settings_of_the_environment_do_not_change_the_bytes(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    digests = set()
    for threads in ("1", "2"):
        target = tmp_path / f"out{threads}.safetensors"
        arguments = map(str, (van_gogh, checkpoint_file, target))
        command = [sys.executable, "-m", "erasepro_convert", *arguments]
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PATH": ""}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.slow
def test_the_manifest_is_valid_sorted_and_anonymous(
    van_gogh: Path, state: State, tmp_path: Path
) -> None:
    """It fits its schema, names every drop with a reason, and gives away no path."""
    source = tmp_path / "in.ckpt"
    torch.save({"state_dict": with_ema(state), "epoch": 3}, source)
    target = tmp_path / "out.safetensors"
    returned = run(van_gogh, source, target, autov3=True)
    text = target.with_suffix(".manifest.json").read_text(encoding="utf-8")
    record = json.loads(text)
    jsonschema.Draft202012Validator(json.loads(schema_json())).validate(record)
    assert Manifest.model_validate_json(text) == returned
    assert text == json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert str(tmp_path) not in text
    assert record["input"]["files"][0]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["input"]["files"][0]["autov3"] is None
    content = target.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    body = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    (output,) = record["output"]["files"]
    assert (output["sha256"], output["autov2"], output["autov3"]) == (digest, digest[:10], body)
    assert output["size"] == len(content)
    assert record["recipe"]["concepts"][0]["prompts"] == ["{}"], "defaults are filled in"
    dropped = {entry["name"]: entry["reason"] for entry in record["tensors"]["dropped"]}
    assert len(dropped) == 686 + 2 + 1
    assert dropped["epoch"] == "training state beside the weights"
    assert record["tensors"]["written"] == len(state)


@pytest.mark.slow
def test_the_safetensors_input_hash_covers_its_body(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    manifest = run(van_gogh, checkpoint_file, target, autov3=True)
    content = checkpoint_file.read_bytes()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    assert manifest.input.files[0].autov3 == hashlib.sha256(body).hexdigest()
    without = run(van_gogh, checkpoint_file, target, force=True)
    assert without.input.files[0].autov3 is None
    assert without.output.files[0].autov3 is None
    assert without.output.files[0].sha256 == manifest.output.files[0].sha256


def test_the_shipped_schema_is_the_codes() -> None:
    """``make schema`` writes it; this fails when that was forgotten."""
    shipped = Path(manifest_module.__file__).with_name("manifest.schema.json")
    assert shipped.read_text(encoding="utf-8") == schema_json()


@pytest.mark.slow
def test_the_schema_refuses_what_is_not_a_manifest(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Control: the schema is no rubber stamp."""
    manifest = run(van_gogh, checkpoint_file, tmp_path / "out.safetensors", dry_run=True)
    validator = jsonschema.Draft202012Validator(json.loads(schema_json()))
    record = json.loads(manifest.to_json())
    for part, value in (("input", {}), ("edits", [{}]), ("schema_version", 2), ("extra", 1)):
        assert not validator.is_valid({**record, part: value})


@pytest.mark.slow
def test_metadata_keeps_what_is_true_and_says_what_was_done(
    van_gogh: Path, state: State, tmp_path: Path
) -> None:
    stale = {
        "modelspec.hash_sha256": "0xabc",
        "modelspec.date": "2022-08-22",
        "sshs_model_hash": "abc",
        "sshs_legacy_hash": "abc",
    }
    kept = {"modelspec.title": "My model", "modelspec.license": "CreativeML", "ss_note": "x"}
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(state, source, metadata=stale | kept)
    manifest = run(van_gogh, source, target)
    metadata = read_metadata(target)
    assert not stale.keys() & metadata.keys()
    assert kept.items() <= metadata.items()
    assert metadata["format"] == "pt"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
    for field in ("sai_model_spec", "implementation", "resolution"):
        assert metadata[f"modelspec.{field}"]
    assert json.loads(metadata["erasepro.concepts"]) == [{"target": "Van Gogh", "anchor": "artist"}]
    assert metadata["erasepro.recipe_sha256"] == manifest.recipe_sha256


def with_a_note(state: State, size: int, path: Path) -> int:
    """Write a file with so much in its metadata, and say how long its header is."""
    save_file(state, path, metadata={"workflow": "[" * size, "author": "somebody"})
    return int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.slow
def test_metadata_of_megabytes_is_carried_over(
    van_gogh: Path, state: State, cli: Cli, tmp_path: Path
) -> None:
    """Into a file that this program and the safetensors library read."""
    with_a_note(state, 9_000_000, tmp_path / "in.safetensors")
    target = tmp_path / "out.safetensors"
    assert cli(van_gogh, tmp_path / "in.safetensors", target, "--embed-manifest").code == 0
    assert read_metadata(target)["workflow"] == "[" * 9_000_000
    assert cli("verify", target).code == 0
    assert cli("inspect", target).code == 0


@pytest.mark.parametrize(
    ("room", "option", "advice"),
    [
        (50, (), "take workflow"),
        (50, ("--dry-run",), "take workflow"),
        (2000, ("--embed-manifest",), "leave out --embed-manifest, or take wor"),
    ],
)
def test_a_header_that_nobody_could_read_is_not_written(
    room: int,
    option: tuple[str, ...],
    advice: str,
    van_gogh: Path,
    state: State,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is that of the library; here it lies just above the input's header."""
    limit = with_a_note(state, 100_000, tmp_path / "in.safetensors") + room
    monkeypatch.setattr(safetensors_file, "HEADER_LIMIT", limit)
    ran = cli(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors", *option)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith(
        "error: out.safetensors cannot be written: its safetensors header has"
    )
    assert f"more than the {limit} that loaders read; {advice}" in ran.err
    assert ran.err.endswith("workflow (100000 bytes) out of the input's metadata\n")
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "in.safetensors"}


@pytest.mark.slow
def test_private_keeps_the_recipes_words_out_of_the_file(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    run(van_gogh, checkpoint_file, target, private=True)
    content = target.read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")].lower()
    assert not re.search(rb"gogh|artist", header)
    assert b"erasepro.recipe_sha256" in header


@pytest.mark.slow
def test_a_dry_run_tells_everything_and_writes_nothing(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Even the digest is that of the file which a real run then writes."""
    target = tmp_path / "out.safetensors"
    dry = run(van_gogh, checkpoint_file, target, dry_run=True)
    assert not dry.output.written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]
    real = run(van_gogh, checkpoint_file, target)
    assert real.output.files == dry.output.files
    assert real.edits == dry.edits


@pytest.mark.slow
def test_the_old_spelling_is_written_in_the_current_one(
    van_gogh: Path, checkpoint_file: Path, state: State, tmp_path: Path
) -> None:
    old = {name.replace("transformer.text_model.", "transformer."): t for name, t in state.items()}
    save_file(old, tmp_path / "in.safetensors")
    manifest = run(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    run(van_gogh, checkpoint_file, tmp_path / "plain.safetensors")
    output, plain = (load_file(tmp_path / f"{n}.safetensors") for n in ("out", "plain"))
    assert set(output) == set(state)
    assert all(torch.equal(output[name], plain[name]) for name in plain)
    assert len(manifest.tensors.renamed) == 197


@pytest.mark.slow
def test_markers_of_v_prediction_and_strided_tensors_survive(
    van_gogh: Path, state: State, tmp_path: Path
) -> None:
    """Zero-size markers are copied; a transposed view is written packed."""
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    odd = {
        **state,
        name: state[name].T,
        **{marker: torch.empty(0) for marker in PREDICTION_MARKERS},
    }
    torch.save(odd, tmp_path / "in.ckpt")
    run(van_gogh, tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    output = load_file(tmp_path / "out.safetensors")
    assert torch.equal(output[name], state[name].T)
    assert {output[marker].shape for marker in PREDICTION_MARKERS} == {(0,)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted(Path("recipes/paper").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_of_the_paper_converts_a_miniature(
    path: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    manifest = run(path, checkpoint_file, tmp_path / "out.safetensors", dry_run=True)
    for edit in manifest.edits:
        assert edit.residual_after.relative < edit.residual_before.relative


@pytest.mark.slow
def test_an_erased_checkpoint_can_be_erased_again(
    make_recipe: MakeRecipe, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Its file keeps what was erased before; the manifest names the one before by digest."""
    once, twice, thrice = (tmp_path / f"{i}.safetensors" for i in (1, 2, 3))
    first = run(van_gogh, checkpoint_file, once)
    assert first.previous is None
    monet = make_recipe(van_gogh.read_text().replace("Van Gogh", "Monet"))
    second = run(monet, once, twice)
    assert second.previous
    assert second.previous.manifest_sha256 == first.manifest_sha256
    assert second.previous.recipe_sha256 == first.recipe_sha256
    once.with_suffix(".manifest.json").write_text("{}")
    assert run(monet, once, twice, force=True).previous is None, "somebody else's file"
    third = run(monet, twice, thrice)
    history = json.loads(read_metadata(thrice)["erasepro.history"])
    assert [entry["recipe_sha256"] for entry in history] == [
        first.recipe_sha256,
        monet.digest,
    ]
    assert "Van Gogh" in history[0]["concepts"]
    assert third.previous
    assert json.loads(read_metadata(thrice)["erasepro.concepts"])[0]["target"] == "Monet"


@pytest.mark.slow
@pytest.mark.parametrize("history", ["nonsense", "5", "[5, {}]", "[" * 5000])
def test_a_history_that_is_not_ours_is_left_out(
    history: str, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    source = tmp_path / "in.safetensors"
    save_file(state, source, metadata={"erasepro.history": history})
    run(van_gogh, source, tmp_path / "out.safetensors")
    kept = json.loads(read_metadata(tmp_path / "out.safetensors").get("erasepro.history", "[]"))
    assert kept in ([], [{}])


@pytest.mark.slow
def test_a_lone_file_tells_what_was_done(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    manifest = run(van_gogh, checkpoint_file, target, embed_manifest=True)
    carried = json.loads(read_metadata(target)["erasepro.manifest"])
    assert carried["input"]["files"][0]["sha256"] == manifest.input.files[0].sha256
    assert Recipe.model_validate(carried["recipe"]).digest == manifest.recipe_sha256
    assert carried["probe"] == json.loads(manifest.probe.model_dump_json())
    assert len(read_metadata(target)["erasepro.manifest"]) < 30_000
    shown = cli("inspect", target).out
    assert "carries its manifest" in shown
    assert "Van Gogh" in shown
    again = run(van_gogh, target, tmp_path / "again.safetensors")
    assert "erasepro.manifest" not in again.output.metadata, "of the file before"
    assert (
        cli("--private", "--embed-manifest", van_gogh, target, tmp_path / "x.safetensors").code == 2
    )
