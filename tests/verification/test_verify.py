"""Verification: an untouched release passes, and every kind of tampering is found and named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.demo import checkpoint
from erasepro_convert.erase import text_pass
from erasepro_convert.manifest import Manifest, read_manifest
from erasepro_convert.output.diffusers_folder import write_configurations
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.methods import SOLVED
from erasepro_convert.report.burden import with_burden
from erasepro_convert.runtime.dtypes import DTYPE_OPTIONS, DtypeOption, torch_dtype
from erasepro_convert.sd1 import key_value_matrices
from erasepro_convert.sd1.architecture import Architecture
from erasepro_convert.sd1.keys import POSITION_IDS, UNET, text_keys
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys
from erasepro_convert.verification import Finding
from erasepro_convert.verification.verify import Request, compare
from tests.conftest import PLAIN, SHORT, Cli
from tests.miniature import MINIATURE, State, save_folder, with_ema


@dataclass(frozen=True)
class Release:
    """A base, what was made of it, and the manifest."""

    base: Path
    output: Path
    manifest: Manifest

    def verified(self, manifest: Manifest | None = None, **asked: Any) -> list[Finding]:
        request = Request(**{"target": self.output, **asked})
        return list(compare(manifest or self.manifest, request, lambda *_: None).findings)


def release(base: Path, place: Path, **options: Any) -> Release:
    recipe = place / "recipe.yaml"
    recipe.write_text(SHORT + PLAIN, encoding="utf-8")
    output = place / ("out" if options.get("folder") else "out.safetensors")
    made = convert(load_recipe(recipe), base, output, Options(**options), lambda *_: None)
    return Release(base, output, made)


@pytest.fixture(scope="module")
def plain(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(checkpoint_file, tmp_path_factory.mktemp("release"))


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def names(findings: list[Finding], kind: str) -> set[str]:
    return {finding.place for finding in findings if finding.kind == kind}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "fp16"},
        {"ema": "convert"},
        {"ema": "use"},
        {"private": True},
        {"clip_skip": 2},
        {"autov3": True},
        {"tensor_digests": "sha256"},  # as manifests of schema 3 have them
    ],
)
@pytest.mark.slow
def test_a_release_is_what_its_manifest_says(
    options: dict[str, Any], state: State, tmp_path: Path
) -> None:
    """Alone, against its base, and when the recipe is run again."""
    base = tmp_path / "in.safetensors"
    save_file(with_ema(state), base)
    made = release(base, tmp_path, **options)
    assert read_manifest(tmp_path / "out.manifest.json") == made.manifest
    assert made.verified() == []
    assert made.verified(base=base, replay=True) == []


@pytest.mark.slow
def test_a_replay_takes_no_edit_from_the_cache(
    plain: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the conversion left there would only confirm itself."""
    monkeypatch.setattr(text_pass, "find_tensors", lambda _: pytest.fail("it was not computed"))
    assert plain.verified(base=plain.base, replay=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in SOLVED if not m.startswith("erasepro")])
def test_a_release_of_any_solved_method_is_what_its_manifest_says(
    method: str, checkpoint_file: Path, tmp_path: Path
) -> None:
    limits = "{leak: null, drift: null, relative_update: null}"
    text = SHORT + f"method: {method}\nlimits: {limits}\n"
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    output = tmp_path / "out.safetensors"
    recipe = load_recipe(tmp_path / "recipe.yaml")
    made = convert(recipe, checkpoint_file, output, Options(), lambda *_: None)
    assert Release(checkpoint_file, output, made).verified(base=checkpoint_file, replay=True) == []


@pytest.mark.slow
def test_a_folder_is_what_its_manifest_says(tmp_path: Path) -> None:
    with checkpoint() as base:
        made = release(base, tmp_path, folder=True)
        assert made.verified(base=base, replay=True) == []
    (made.output / "unet/evil.py").write_text("import os")
    (made.output / "model_index.json").write_text("{}")
    (made.output / "vae/config.json").unlink()
    place = ("output", "files", 0, "name")
    elsewhere = changed(made.manifest, *place, value="../recipe.yaml")
    assert names(made.verified(elsewhere), "manifest") == {"../recipe.yaml"}
    assert {finding.name.split(":")[0] for finding in made.verified()} == {
        "unet/evil.py",
        "model_index.json",
        "vae/config.json",
    }


@contextmanager
def flipped(path: Path, position: int) -> Iterator[None]:
    """Change one bit of a file for as long as the block lasts."""

    def flip() -> None:
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()


@pytest.mark.slow
def test_a_flipped_bit_in_any_region_is_found(plain: Release, tmp_path: Path) -> None:
    """In the header's length, its metadata, its entries, and in values of each tensor in turn."""
    content = plain.output.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:size])
    del header["__metadata__"]
    target = Path(shutil.copyfile(plain.output, tmp_path / "out.safetensors"))
    metadata_at, entries_at = content.index(b"__metadata__"), content.index(b"data_offsets")
    for position in (0, 7, 8, metadata_at, metadata_at + 20, entries_at, entries_at + 18, size - 1):
        with flipped(target, position):
            assert "file" in kinds(plain.verified(target=target)), position
    tensors = [(name, entry["data_offsets"]) for name, entry in header.items()]
    for name, (start, end) in tensors[::97]:
        for position in {start, (start + end) // 2, end - 1} if end > start else set():
            with flipped(target, size + position):
                findings = plain.verified(target=target)
            assert names(findings, "tensor") == {f"{name}: digest"}
            assert names(findings, "file") == {f"{plain.output.name}: SHA-256"}
    assert plain.verified(target=target) == [], "control: without a flipped bit"


def resaved(
    plain: Release, target: Path, change: Callable[[State, dict[str, str]], None] | None = None
) -> Path:
    with safe_open(plain.output, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    state = load_file(plain.output)
    if change:
        change(state, metadata)
    save_file(state, target, metadata=metadata)
    return target


A, B = (f"{UNET}output_blocks.{i}.0.out_layers.3.bias" for i in (9, 10))


def swap(state: State, _: dict[str, str]) -> None:
    state[A], state[B] = state[B], state[A]


def add(state: State, _: dict[str, str]) -> None:
    state["model_ema.diffusion_modelout2bias"] = torch.ones(4)


def leave_out(state: State, _: dict[str, str]) -> None:
    del state[A]


def stale(_: State, metadata: dict[str, str]) -> None:
    metadata["modelspec.hash_sha256"] = "0xabc"


def renamed(_: State, metadata: dict[str, str]) -> None:
    metadata["erasepro.recipe"] = "another"


@pytest.mark.parametrize(
    ("change", "kind", "found"),
    [
        (swap, "tensor", {f"{A}: digest", f"{B}: digest"}),
        (add, "tensor", {"model_ema.diffusion_modelout2bias"}),
        (leave_out, "tensor", {A}),
        (stale, "metadata", {"x.safetensors: modelspec.hash_sha256"}),
        (renamed, "metadata", {"x.safetensors: erasepro.recipe"}),
    ],
)
def test_tampering_with_the_file_is_found_and_named(
    change: Callable[[State, dict[str, str]], None],
    kind: str,
    found: set[str],
    plain: Release,
    tmp_path: Path,
) -> None:
    target = resaved(plain, tmp_path / "x.safetensors", change)
    findings = plain.verified(target=target)
    assert names(findings, kind) == found
    assert kinds(findings) == {kind, "file"}


@pytest.mark.slow
def test_a_tensor_put_back_as_it_was_is_found(plain: Release, state: State, tmp_path: Path) -> None:
    """Even where the manifest is made to agree: it declares an edit that is none."""
    name = plain.manifest.edits[0].name

    def restore(edited: State, _: dict[str, str]) -> None:
        edited[name] = state[name]

    target = resaved(plain, tmp_path / "x.safetensors", restore)
    findings = plain.verified(target=target, base=plain.base)
    assert Finding("untouched", name, "edited", "as in the original") in findings
    assert f"{name}: update_norm" in names(findings, "figure")


@pytest.mark.slow
def test_an_output_that_cannot_be_measured_is_found(plain: Release, tmp_path: Path) -> None:
    """A damaged weight must not end verification before its findings are told."""

    def damage(state: State, _: dict[str, str]) -> None:
        state[plain.manifest.edits[50].name][0, 0] = float("nan")

    target = resaved(plain, tmp_path / "x.safetensors", damage)
    assert {"tensor", "figure"} <= kinds(plain.verified(target=target, base=plain.base))

    def narrow(state: State, _: dict[str, str]) -> None:
        state[A] = state[A][:3].clone()

    findings = plain.verified(target=resaved(plain, target, narrow), base=plain.base)
    assert {f"{A}: shape"} == names(findings, "tensor")
    assert f"{A} has shape [3]" in next(f.found for f in findings if f.kind == "figure")


@pytest.mark.slow
def test_an_undeclared_change_is_found(plain: Release, tmp_path: Path) -> None:
    target = resaved(plain, tmp_path / "x.safetensors", swap)
    findings = plain.verified(target=target, base=plain.base)
    assert names(findings, "untouched") == {A, B}


def changed(manifest: Manifest, *path: str | int, value: object) -> Manifest:
    """The manifest with one entry changed, and sealed anew as a forger would."""
    data = json.loads(manifest.to_json())
    place = data
    for part in path[:-1]:
        place = place[part]
    assert place[path[-1]] != value
    place[path[-1]] = value
    return Manifest.model_validate_json(json.dumps(data)).sealed()


@pytest.mark.parametrize(
    "path",
    [
        ("edits", 0, "norm"),
        ("edits", 5, "update_norm"),
        ("edits", 40, "relative_update"),
        ("edits", 67, "residual_after", "relative"),
        ("edits", 40, "feature_distance_without_edits", "angle"),
        ("edits", 3, "feature_distance", "distance"),
        ("edits", 3, "rank"),
        ("probe", "leak", 0, "mean"),
        ("probe", "drift", 0, "worst"),
        ("probe", "reach", 0, "reach"),
        ("alignment", "deeper_layers", "merged"),
    ],
)
@pytest.mark.slow
def test_a_forged_figure_is_found_with_the_base(
    path: tuple[str | int, ...], plain: Release
) -> None:
    forged = changed(plain.manifest, *path, value=7)
    assert plain.verified(forged) == [], "control: the manifest alone cannot tell"
    assert kinds(plain.verified(forged, base=plain.base)) == {"figure"}


def test_a_manifest_older_than_reach_is_verified_without_it(plain: Release) -> None:
    probe = plain.manifest.probe.model_copy(update={"reach": ()})
    older = plain.manifest.model_copy(update={"probe": probe}).sealed()
    assert plain.manifest.probe.reach
    assert "reach" not in json.loads(older.to_json())["probe"]
    read = Manifest.model_validate_json(older.to_json())
    assert read.digest() == older.manifest_sha256
    assert plain.verified(read, base=plain.base) == []


@pytest.mark.slow
def test_updates_for_one_text_encoder_are_verified_where_they_were_asked_for(
    plain: Release,
) -> None:
    full = with_burden(plain.manifest, plain.base, plain.output, None, lambda *_: None).sealed()
    assert any(edit.single_encoder_update for edit in full.edits)
    assert plain.verified(full, base=plain.base) == []
    forged = changed(full, "edits", 40, "single_encoder_update", "stock", value=7)
    assert kinds(plain.verified(forged, base=plain.base)) == {"figure"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("output", "files", 0, "sha256"), "0" * 64),
        (("output", "files", 0, "size"), 7),
        (("output", "tensors", A, "blake3"), "0" * 64),
        (("output", "tensors", A, "dtype"), "F16"),
        (("recipe", "name"), "another"),
        (("recipe", "concepts", 0, "target"), "Monet"),
        (("recipe_sha256",), "0" * 64),
        (("output", "metadata", "erasepro.recipe_sha256"), "0" * 64),
    ],
)
def test_a_forged_statement_about_the_file_is_found(
    path: tuple[str | int, ...], value: object, plain: Release
) -> None:
    assert plain.verified(changed(plain.manifest, *path, value=value))


def test_an_edited_manifest_that_was_not_sealed_anew_is_found_alone(plain: Release) -> None:
    edited = plain.manifest.model_copy(update={"exceeded": ("nothing",)})
    assert names(plain.verified(edited), "manifest") == {"manifest_sha256"}


@pytest.mark.slow
def test_another_recipe_is_found_even_if_all_digests_agree(plain: Release) -> None:
    recipe = plain.manifest.recipe.changed(tolerance=0.3)
    metadata = {**plain.manifest.output.metadata, "erasepro.recipe_sha256": recipe.digest}
    output = plain.manifest.output.model_copy(update={"metadata": metadata})
    update = {"recipe": recipe, "recipe_sha256": recipe.digest, "output": output}
    forged = plain.manifest.model_copy(update=update).sealed()
    assert "metadata" in kinds(plain.verified(forged))
    assert {"replay", "metadata"} <= kinds(plain.verified(forged, base=plain.base, replay=True))


@pytest.mark.slow
def test_another_base_is_found(plain: Release, state: State, tmp_path: Path) -> None:
    other = tmp_path / "mini.safetensors"
    save_file({**state, A: state[A] + 1}, other)
    findings = plain.verified(base=other)
    assert kinds(findings) == {"base"}


@pytest.mark.slow
def test_a_copy_that_was_saved_anew_is_matched_by_its_tensors(
    plain: Release, tmp_path: Path
) -> None:
    """In another order and container, without metadata; a changed value still shows."""
    state = load_file(plain.output)
    torch.save(dict(reversed(state.items())), tmp_path / "copy.ckpt")
    assert plain.verified(target=tmp_path / "copy.ckpt", tensors_only=True) == []
    assert kinds(plain.verified(target=tmp_path / "copy.ckpt")) == {"file", "metadata"}
    state[A] += 1
    torch.save(state, tmp_path / "copy.ckpt")
    findings = plain.verified(target=tmp_path / "copy.ckpt", tensors_only=True)
    assert names(findings, "tensor") == {f"{A}: digest"}


def through_diffusers(file: Path, folder: Path) -> Path:
    """A diffusers folder that diffusers itself made of a file."""
    narrow = Architecture(MINIATURE, 32, 32, 64, steps=1, guidance=1, batch=1, others=())
    write_configurations(narrow, folder / "configs")
    pipeline = StableDiffusionPipeline.from_single_file(
        str(file),
        config=str(folder / "configs"),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
    )
    pipeline.save_pretrained(folder / "saved")
    return folder / "saved"


def back_in_original_names(folder: Path) -> State:
    """What diffusers' own script makes of its folder: no position ids, no schedule."""
    tables = {"unet": unet_keys, "vae": vae_keys, "text_encoder": text_keys}
    state = {}
    for part, keys in tables.items():
        (file,) = (folder / part).glob("*.safetensors")
        saved = load_file(file)
        for key in keys(MINIATURE):
            # transformers 5 dropped the "text_model." in front
            name = key.diffusers if key.diffusers in saved else key.diffusers.split(".", 1)[1]
            state[key.original] = saved[name].reshape(key.shape)
    return state


@pytest.mark.slow
def test_a_round_trip_through_diffusers_is_a_copy(cli: Cli, plain: Release, tmp_path: Path) -> None:
    """What only some containers have a place for may be missing in each of them, and is named."""
    record = plain.output.with_suffix(".manifest.json")
    folder = through_diffusers(plain.output, tmp_path)
    single = tmp_path / "back.safetensors"
    save_file(back_in_original_names(folder), single)
    for copy in (folder, single):
        ran = cli("verify", copy, "--manifest", record, "--tensors-only", "--base", plain.base)
        assert (ran.code, ran.err) == (0, "")
        assert ": 1130 tensors as the manifest says\n" in ran.out
        assert "3 tensors are not in this copy" in ran.out
        assert f"alphas_cumprod, betas, {POSITION_IDS}\n" in ran.out
    assert names(plain.verified(target=single), "tensor") == {
        "alphas_cumprod",
        "betas",
        POSITION_IDS,
    }, "control: in the release itself they must be there"
    needed = "model.diffusion_model.out.2.bias"
    state = load_file(single)
    del state[needed]
    save_file({**state, POSITION_IDS: torch.arange(77)[None]}, single)
    findings = plain.verified(target=single, tensors_only=True)
    assert names(findings, "tensor") == {needed}


@pytest.mark.slow
def test_position_ids_that_a_copy_has_more_must_be_the_right_ones(
    state: State, tmp_path: Path
) -> None:
    base = tmp_path / "in.safetensors"
    save_file({name: t for name, t in state.items() if name != POSITION_IDS}, base)
    made = release(base, tmp_path)
    copy = tmp_path / "copy.safetensors"
    for ids, found in ((torch.arange(77)[None], set()), (torch.zeros(1, 77).long(), {"digest"})):
        save_file({**load_file(made.output), POSITION_IDS: ids}, copy)
        findings = made.verified(target=copy, tensors_only=True)
        assert {finding.what for finding in findings} == found
    assert names(made.verified(target=copy), "tensor") == {POSITION_IDS}, "control: no copy"
    save_file({**load_file(made.output), "posterior_variance": torch.zeros(1000)}, copy)
    findings = made.verified(target=copy, tensors_only=True)
    assert names(findings, "tensor") == {"posterior_variance"}


@pytest.mark.slow
def test_a_copy_without_the_ema_copy_is_measured_without_it(state: State, tmp_path: Path) -> None:
    base = tmp_path / "in.safetensors"
    save_file(with_ema(state), base)
    made = release(base, tmp_path, ema="convert")
    pruned = {n: t for n, t in load_file(made.output).items() if not n.startswith("model_ema.")}
    copy = tmp_path / "pruned.safetensors"
    save_file(pruned, copy)
    request = Request(copy, base, tensors_only=True)
    verified = compare(made.manifest, request, lambda *_: None)
    assert verified.findings == ()
    assert verified.compared == len(pruned) == 1133
    assert len(verified.absent) == 688


@pytest.mark.slow
def test_a_copy_in_another_precision_is_summarised_before_it_is_listed(
    cli: Cli, plain: Release, tmp_path: Path
) -> None:
    def halved(state: State, _: dict[str, str]) -> None:
        state.update({n: t.half() for n, t in state.items() if t.is_floating_point()})
        state[A] += 1

    copy = resaved(plain, tmp_path / "half.safetensors", halved)
    record = plain.output.with_suffix(".manifest.json")
    ran = cli("verify", copy, "--manifest", record, "--tensors-only")
    first, *listed = ran.out.splitlines()
    assert first.startswith("tensor: 1132 times dtype F16, expected F32; the first is ")
    assert len(listed) == 3 * 1132 + 5, "each is listed, with expected and found; 5 checks"
    assert (ran.code, ran.err) == (5, f"error: {copy}: 1132 deviations\n")
    copy = resaved(plain, copy, lambda state, _: state.update({A: state[A] + 1}))
    ran = cli("verify", copy, "--manifest", record, "--tensors-only")
    assert ran.err == f"error: {copy}: 1 deviation\n"
    assert ran.out.startswith(f"tensor: {A}: digest\n"), "what is one of its kind is only listed"


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("place", ["in", "out", "elsewhere"])
@pytest.mark.slow
def test_a_replay_minds_no_file_in_the_working_folder(
    folder: bool,
    place: str,
    state: State,
    checkpoint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> None:
    """Base and output are called alike, and verified from beside either."""
    for name in ("in", "out", "elsewhere"):
        (tmp_path / name).mkdir()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SHORT + PLAIN, encoding="utf-8")
    called = "model" if folder else "model.safetensors"
    base, output = tmp_path / "in" / called, tmp_path / "out" / called
    if folder:
        with checkpoint() as demo:
            convert(load_recipe(recipe), demo, base, Options(folder=True), lambda *_: None)
            (base / "manifest.json").unlink()
    else:
        shutil.copyfile(checkpoint_file, base)
    convert(load_recipe(recipe), base, output, Options(folder=folder), lambda *_: None)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path / place)
    base, output = (Path(os.path.relpath(path)) for path in (base, output))
    ran = cli("verify", output, "--base", base, "--replay")
    assert (ran.code, ran.err) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("dtype", [None, "fp16"])
@pytest.mark.slow
def test_only_what_the_recipe_changed_counts_as_edited(
    dtype: DtypeOption | None, van_gogh: Path, state: State, cli: Cli, tmp_path: Path
) -> None:
    """A matrix of zeros stays as it is; a cast alone is no edit."""
    unedited = {
        **state,
        **{name: torch.zeros_like(state[name]) for name in key_value_matrices()[:3]},
    }
    save_file(unedited, tmp_path / "in.safetensors")
    checkpoint_file, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    options = ("--dtype", dtype) if dtype else ()
    ran = cli("--details", *options, van_gogh, checkpoint_file, output)
    assert (ran.code, ran.err) == (0, "")
    to = torch_dtype(DTYPE_OPTIONS[dtype]) if dtype else torch.float32
    different = {
        name
        for name, tensor in load_file(output).items()
        if tensor.is_floating_point() and not torch.equal(tensor, unedited[name].to(to))
    }
    count = len(different)
    assert count == 68 - 3
    manifest = read_manifest(tmp_path / "out.manifest.json")
    assert manifest.tensors.edited == count
    assert {edit.name for edit in manifest.edits if edit.changed} == different
    assert f"\n{count} of 68 matrices edited; " in ran.out
    cli("report", tmp_path / "out.manifest.json")
    assert f"{count} of 68 matrices edited; " in (tmp_path / "out.html").read_text()
    made = Release(checkpoint_file, output, manifest)
    assert made.verified(base=checkpoint_file) == []
    assert names(made.verified(changed(manifest, "tensors", "edited", value=68)), "manifest") == {
        "tensors.edited"
    }
    number = next(i for i, edit in enumerate(manifest.edits) if not edit.changed)
    forged = changed(manifest, "edits", number, "changed", value=True)
    found = made.verified(forged, base=checkpoint_file)
    assert kinds(found) == {"manifest", "untouched", "figure"}


@pytest.mark.slow
def test_the_command_line(cli: Cli, plain: Release, tmp_path: Path) -> None:
    ran = cli("verify", plain.output, "--base", plain.base)
    assert (ran.code, ran.err) == (0, "")
    assert f"{len(plain.manifest.output.tensors)} tensors as the manifest says" in ran.out
    broken = resaved(plain, tmp_path / "x.safetensors", swap)
    record = plain.output.with_suffix(".manifest.json")
    ran = cli("verify", "--json", broken, "--manifest", record)
    assert ran.code == 5
    found = json.loads(ran.out)
    assert {finding["kind"] for finding in found["findings"]} == {"file", "tensor"}
    unchecked = {"base": None, "replay": None, "signature": None}
    assert found["checked"] == {"manifest": True, "file": False, **unchecked}
    assert cli("verify", broken, "--manifest", record).out.count(A) == 1
    coloured = resaved(plain, tmp_path / "y.safetensors", lambda _, m: m.update({"\x1b[31m": "x"}))
    assert r"\x1b[31m" in cli("verify", coloured, "--manifest", record).out
    assert "\x1b" not in cli("verify", coloured, "--manifest", record).out
    assert cli("verify", tmp_path / "none").code == 2
    assert cli("verify", broken).code == 2
    assert cli("verify", "--replay", plain.output).code == 2
    (tmp_path / "odd.json").write_text("{}")
    assert cli("verify", plain.output, "--manifest", tmp_path / "odd.json").code == 5
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert cli("verify", broken, "--manifest", record).code == 5


@pytest.mark.slow
def test_verifying_the_manifest_alone_needs_no_torch(plain: Release) -> None:
    script = f"""
import sys
from erasepro_convert.cli import main
main(["verify", {str(plain.output)!r}])
assert not {{"torch", "transformers", "diffusers"}} & set(sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_bases_of_several_files(state: State, checkpoint_file: Path, tmp_path: Path) -> None:
    """A diffusers folder, and a U-Net whose text encoder came from elsewhere."""
    folder = save_folder(state, tmp_path / "in")
    of_folder = release(folder, tmp_path)
    assert of_folder.verified(base=folder, replay=True) == []
    (tmp_path / "joined").mkdir()
    bare = {name: t for name, t in state.items() if not name.startswith("cond_stage_model.")}
    save_file(bare, tmp_path / "unet.safetensors")
    joined = release(
        tmp_path / "unet.safetensors", tmp_path / "joined", text_encoder=checkpoint_file
    )
    asked: dict[str, Any] = {"base": joined.base, "text_encoder": checkpoint_file, "replay": True}
    assert joined.verified(**asked) == []
    other = tmp_path / "other.safetensors"
    save_file({**state, "x": torch.ones(1)}, other)
    assert kinds(joined.verified(**{**asked, "text_encoder": other})) == {"base"}
