"""Every variant of SD1.x that is met in the wild: it converts like the plain file, or says why not.

The measure is nearly always the same: the output's tensors equal those of the plain checkpoint.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert.errors import CheckpointError, UsageError
from erasepro_convert.manifest import Manifest
from erasepro_convert.sd1.keys import POSITION_IDS, UNET, VAE
from erasepro_convert.sd1.unet import ema_name
from tests.conftest import PLAIN, SHORT, Cli, WriteRecipe
from tests.conversion.test_convert import run
from tests.miniature import State, components, save_folder, with_ema

pytestmark = pytest.mark.slow

TEXT = "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "van-gogh.yaml"
    path.write_text(SHORT + PLAIN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def plain(recipe: Path, checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The plain checkpoint, erased."""
    target = tmp_path_factory.mktemp("plain") / "out.safetensors"
    run(recipe, checkpoint_file, target)
    return load_file(target)


Converted = Callable[..., tuple[Manifest, State]]


@pytest.fixture
def converted(recipe: Path, tmp_path: Path) -> Converted:
    def convert(source: Path, **options: object) -> tuple[Manifest, State]:
        target = tmp_path / "out.safetensors"
        return run(recipe, source, target, force=True, **options), load_file(target)

    return convert


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def saved(state: State, path: Path) -> Path:
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_wrappers(
    depth: int, state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    wrapped: object = state
    for level in range(depth):
        wrapped = {"state_dict": wrapped, f"epoch{level}": level, "optimizer_states": [{}]}
    torch.save(wrapped, tmp_path / "in.ckpt")
    manifest, output = converted(tmp_path / "in.ckpt")
    assert same(output, plain)
    assert {entry.name for entry in manifest.tensors.dropped} >= {"epoch0", "optimizer_states"}


def test_ema_drop_convert_use(
    state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """A kept copy gets the weights that it would have as the U-Net; nothing else changes."""
    full = with_ema(state)
    source = saved(full, tmp_path / "in.safetensors")
    manifest, output = converted(source)
    assert same(output, plain)
    assert manifest.variant.ema == "drop"

    manifest, used = converted(source, ema="use")
    unet = {name for name in state if name.startswith(UNET)}
    as_main = {**state, **{name: full[ema_name(name)] for name in unet}}
    assert same(used, converted(saved(as_main, tmp_path / "main.safetensors"))[1])
    reasons = {entry.name: entry.reason for entry in manifest.tensors.dropped}
    assert reasons.keys() == unet | {"model_ema.decay", "model_ema.num_updates"}

    manifest, kept = converted(source, ema="convert")
    assert kept.keys() == full.keys()
    assert same({name: kept[name] for name in plain}, plain)
    assert all(torch.equal(kept[ema_name(name)], used[name]) for name in unet)
    assert manifest.ema
    assert {edit.name for edit in manifest.ema.edits} <= full.keys()
    assert len(manifest.ema.edits) == 32
    assert manifest.tensors.edited == 68 + 32
    assert manifest.tensors.dropped == ()


def test_an_ema_copy_that_is_not_there_or_not_whole(
    state: State, converted: Converted, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no EMA copy"):
        converted(saved(state, tmp_path / "in.safetensors"), ema="use")
    assert converted(tmp_path / "in.safetensors", ema="convert")[0].variant.ema is None
    part = with_ema(state)
    del part[ema_name(UNET + "out.2.bias")]
    saved(part, tmp_path / "part.safetensors")
    for ema in ("use", "convert"):
        with pytest.raises(CheckpointError, match="lacks 1 of 686"):
            converted(tmp_path / "part.safetensors", ema=ema)


def test_an_ema_copy_beyond_the_limits_is_refused(
    state: State, write_recipe: WriteRecipe, cli: Cli, tmp_path: Path
) -> None:
    """The copy is measured by itself: here its U-Net reads nothing, so its drift has no end."""
    full = with_ema(state)
    for name in full:
        if name.startswith("model_ema.") and "attn2to_k" in name:
            full[name] = full[name] * 0 + 1e-6
    source = saved(full, tmp_path / "in.safetensors")
    limits = SHORT + PLAIN.replace("leak: null", "leak: 1.0")
    ran = cli("--ema", "convert", write_recipe(limits), source, tmp_path / "out.safetensors")
    assert ran.code == 3
    assert "EMA copy of the U-Net does not hold" in ran.err


def test_both_spellings_at_once(
    state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """The current one is taken, the other is a second copy that must not ride along."""
    old = {
        name.replace("text_model.", ""): value + 1 if value.is_floating_point() else value
        for name, value in state.items()
        if name.startswith(TEXT)
    }
    diffusers = {f"unet.{name}": value for name, value in components(state)["unet"].items()}
    manifest, output = converted(saved({**old, **diffusers, **state}, tmp_path / "in.safetensors"))
    assert same(output, plain)
    reasons = {entry.name: entry.reason for entry in manifest.tensors.dropped}
    assert reasons.keys() == old.keys() | diffusers.keys()
    assert set(reasons.values()) == {"second copy of the text encoder", "second copy of the U-Net"}


def test_what_could_bring_a_concept_back_is_dropped_and_listed(
    state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """A file inside a tensor, too: safetensors can carry a whole checkpoint as its last one."""
    torch.save({"a": torch.ones(1)}, tmp_path / "inner.ckpt")
    inner = (tmp_path / "inner.ckpt").read_bytes()
    riders = {
        "control_model.input_blocks.0.0.weight": torch.ones(1),
        "embedding_manager.string_to_param": torch.ones(1),
        "lora_te_text_model_encoder_layers_0.lora_up.weight": torch.ones(1),
        "optimizer_states.0.exp_avg": torch.ones(1),
        "zz": torch.frombuffer(bytearray(inner), dtype=torch.uint8),
    }
    manifest, output = converted(saved({**state, **riders}, tmp_path / "in.safetensors"))
    assert same(output, plain)
    assert {entry.name for entry in manifest.tensors.dropped} == riders.keys()
    assert inner not in (tmp_path / "out.safetensors").read_bytes()


@pytest.mark.parametrize("prefix", ["text_model.", ""])
@pytest.mark.parametrize("attention", [{}, {"to_q": "query", "to_out.0": "proj_attn"}])
def test_diffusers_names_in_one_file(
    prefix: str,
    attention: dict[str, str],
    state: State,
    plain: State,
    converted: Converted,
    tmp_path: Path,
) -> None:
    """With the names of transformers 4 and 5, and the VAE's of diffusers then and now."""
    named = {}
    for part, tensors in components(state).items():
        for key, value in tensors.items():
            name = key.replace("text_model.", prefix)
            for new, old in attention.items() if part == "vae" else ():
                name = name.replace(f".{new}.", f".{old}.")
            named[f"{part}.{name}"] = value
    manifest, output = converted(saved(named, tmp_path / "in.safetensors"))
    absent = {"betas", "alphas_cumprod", POSITION_IDS}
    assert same(output, {name: value for name, value in plain.items() if name not in absent})
    assert len(manifest.tensors.renamed) == len(named)


@pytest.mark.parametrize("damage", ["float", "wrong", "fine float"])
def test_position_ids_are_repaired(
    damage: str, state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """Merges turn them into floats; some land below the integer and are cut down."""
    ids = state[POSITION_IDS].clone()
    if damage == "float":
        ids = ids.float()
        ids[0, 76] = 75.9975
    elif damage == "wrong":
        ids[0, 3] = 2
    else:
        ids = ids.half()
    manifest, output = converted(saved({**state, POSITION_IDS: ids}, tmp_path / "in.safetensors"))
    assert same(output, plain)
    (repaired,) = manifest.tensors.repaired
    assert repaired.name == POSITION_IDS
    assert (
        repaired.defect
        == {
            "float": "stored as float32, 1 of 77 off by up to 0.002502",
            "wrong": "stored as int64, 1 of 77 off by up to 1",
            "fine float": "stored as float16, 0 of 77 off by up to 0",
        }[damage]
    )


def test_sound_position_ids_are_no_repair(converted: Converted, checkpoint_file: Path) -> None:
    assert converted(checkpoint_file)[0].tensors.repaired == ()


@pytest.mark.parametrize(
    ("channels", "variant"),
    [(9, "stable-diffusion-v1-inpainting"), (8, "stable-diffusion-v1-instruct-pix2pix")],
)
def test_other_input_channels(
    channels: int,
    variant: str,
    state: State,
    plain: State,
    converted: Converted,
    tmp_path: Path,
) -> None:
    name = UNET + "input_blocks.0.0.weight"
    wide = torch.randn(32, channels, 3, 3)
    manifest, output = converted(saved({**state, name: wide}, tmp_path / "in.safetensors"))
    assert manifest.variant.name == variant
    assert same(output, {**plain, name: wide})


def test_clip_skip_from_metadata_and_option(
    state: State, checkpoint_file: Path, converted: Converted, tmp_path: Path
) -> None:
    stated = tmp_path / "in.safetensors"
    save_file(state, stated, metadata={"modelspec.encoder_layer": "2"})
    by_metadata, both = converted(stated)
    assert by_metadata.variant.clip_skip_from == "metadata"
    assert by_metadata.recipe.clip_skip == (1, 2)
    by_option, two = converted(checkpoint_file, clip_skip=2)
    assert by_option.variant.clip_skip_from == "command line"
    assert by_option.recipe.clip_skip == (2,)
    assert converted(stated, clip_skip=1)[0].recipe.clip_skip == (1,)
    assert converted(checkpoint_file)[0].variant.clip_skip_from == "recipe"
    key = next(edit.name for edit in by_option.edits if edit.name.startswith(UNET))
    assert not torch.equal(both[key], two[key])


def test_a_missing_vae_stays_missing(
    state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    bare = {name: value for name, value in state.items() if not name.startswith(VAE)}
    _, output = converted(saved(bare, tmp_path / "in.safetensors"))
    assert same(output, {name: plain[name] for name in bare})


def test_a_missing_text_encoder_is_refused_with_advice_or_taken_from_elsewhere(
    state: State, plain: State, converted: Converted, checkpoint_file: Path, tmp_path: Path
) -> None:
    """From a whole checkpoint, from transformers' own file, from a diffusers folder."""
    bare = {name: value for name, value in state.items() if not name.startswith(TEXT)}
    source = saved(bare, tmp_path / "unet.safetensors")
    with pytest.raises(CheckpointError, match=r"text encoder is missing.*--text-encoder FILE"):
        converted(source)
    own = components(state)["text_encoder"] | {"vision_model.x": torch.ones(1)}
    saved(own, tmp_path / "model.safetensors")
    folder = save_folder(state, tmp_path / "folder")
    for given in (checkpoint_file, tmp_path / "model.safetensors", folder):
        manifest, output = converted(source, text_encoder=given)
        assert same({**output, POSITION_IDS: plain[POSITION_IDS]}, plain)
        assert len(manifest.input.files) == 2
        assert all(not entry.name.startswith("vision") for entry in manifest.tensors.dropped)
    with pytest.raises(CheckpointError, match=r"unet\.safetensors: there is no CLIP text encoder"):
        converted(source, text_encoder=source)
    with pytest.raises(UsageError, match="has a text encoder"):
        converted(checkpoint_file, text_encoder=checkpoint_file)


def test_tied_and_strided_tensors(
    state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """Several tensors in one storage, as views of it; each is written whole."""
    names = [f"{TEXT}text_model.encoder.layers.{i}.self_attn.out_proj.weight" for i in range(3)]
    stacked = torch.stack([state[name].T for name in names])
    tied = {**state, **{name: part.T for name, part in zip(names, stacked, strict=True)}}
    torch.save(tied, tmp_path / "in.ckpt")
    assert same(converted(tmp_path / "in.ckpt")[1], plain)


@pytest.fixture
def folder(state: State, tmp_path: Path) -> Path:
    return save_folder(state, tmp_path / "in")


def from_folder(plain: State) -> State:
    """What a folder has no place for is not in the output either."""
    absent = {"betas", "alphas_cumprod", POSITION_IDS}
    return {name: value for name, value in plain.items() if name not in absent}


def test_diffusers_folders(folder: Path, plain: State, converted: Converted) -> None:
    manifest, output = converted(folder)
    assert same(output, from_folder(plain))
    assert manifest.input.name == "in"
    assert [file.name for file in manifest.input.files] == [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_folders_of_other_precision_and_format(
    state: State, folder: Path, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """fp16 where there is nothing else; plain files first; torch files without safetensors."""
    half = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    only_half = save_folder(half, tmp_path / "half", ".fp16")
    manifest, output = converted(only_half)
    assert all(value.dtype == torch.float16 for value in output.values())
    both = folder / "unet/diffusion_pytorch_model.fp16.safetensors"
    both.write_bytes((only_half / "unet" / both.name).read_bytes())
    manifest, output = converted(folder)
    assert same(output, from_folder(plain))
    dropped = {entry.name: entry.reason for entry in manifest.tensors.dropped}
    assert dropped == {f"unet/{both.name}": "another file of the same component, not read"}
    old = tmp_path / "old"
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        (old / part).mkdir(parents=True)
        torch.save(components(state)[part], old / part / f"{stem}.bin")
    _, output = converted(old)
    no_vae = {n: v for n, v in from_folder(plain).items() if not n.startswith(VAE)}
    assert same(output, no_vae)


@pytest.mark.parametrize("variant", [".non_ema", ".fp32", ".ema"])
def test_a_folder_with_another_variant_alone(
    variant: str, state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    """There is one meaning: these are its weights.  Beside plain ones they are passed over."""
    folder = save_folder(state, tmp_path / "in", variant)
    manifest, output = converted(folder)
    assert same(output, from_folder(plain))
    assert manifest.input.files[0].name == f"unet/diffusion_pytorch_model{variant}.safetensors"
    whole = folder / manifest.input.files[0].name
    content = whole.read_bytes()
    shard(folder, variant)
    assert same(converted(folder)[1], from_folder(plain))
    for file in (folder / "unet").iterdir():
        file.unlink()
    whole.write_bytes(content)
    whole.with_name("diffusion_pytorch_model.other.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"in/unet: .* 2 variants .*{variant[1:]}.*leave"):
        converted(folder)
    whole.rename(whole.with_name("diffusion_pytorch_model.safetensors"))
    assert same(converted(folder)[1], from_folder(plain))


def test_parts_of_a_folder_that_are_unknown_are_refused_or_left_out(
    state: State, converted: Converted, tmp_path: Path
) -> None:
    parts = {
        "unet": ("down_blocks.0.attentions.0.processor.to_k_ip.weight", "U-Net .* IP-Adapter"),
        "text_encoder": ("text_model.adapter.weight", "text encoder holds"),
        "vae": ("quantize.embedding.weight", "VAE holds"),
    }
    for part, (name, message) in parts.items():
        folder = save_folder(state, tmp_path / part)
        (weights,) = (folder / part).iterdir()
        sound = {name: value.clone() for name, value in load_file(weights).items()}  # not mapped
        save_file({**sound, name: torch.ones(1)}, weights)
        with pytest.raises(CheckpointError, match=f"its {message}"):
            converted(folder)
        save_file({**sound, "text_projection.weight": torch.ones(1)}, weights)
        if part == "text_encoder":
            (entry,) = converted(folder)[0].tensors.dropped
            assert entry.name == "text_encoder.text_projection.weight"
            assert "which SD1.x has no use for" in entry.reason


def shard(folder: Path, variant: str = "") -> Path:
    """Split the U-Net of a folder into two files with an index."""
    whole = folder / f"unet/diffusion_pytorch_model{variant}.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names = [f"diffusion_pytorch_model{variant}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    place = {name: names[number % 2] for number, name in enumerate(sorted(tensors))}
    for name in names:
        save_file({n: t for n, t in tensors.items() if place[n] == name}, whole.parent / name)
    index = whole.with_name(f"diffusion_pytorch_model.safetensors.index{variant}.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}), encoding="utf-8")
    return index


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_sharded_folders(
    variant: str, state: State, plain: State, converted: Converted, tmp_path: Path
) -> None:
    folder = save_folder(state, tmp_path / "in", variant)
    shard(folder, variant)
    manifest, output = converted(folder)
    assert same(output, from_folder(plain))
    assert len(manifest.input.files) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"weight_map": {"a": "../../outside.safetensors"}}', "no index of weight files"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "no index of weight files"),
        ('{"weight_map": {"a": 5}}', "no index of weight files"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "names gone.safetensors, which is not there"),
        ("[]", "no JSON object"),
        ("nonsense", "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_broken_indices_are_refused(
    content: str, message: str, folder: Path, converted: Converted
) -> None:
    shard(folder).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        converted(folder)


def test_folders_that_are_no_model_of_ours(folder: Path, converted: Converted) -> None:
    (folder / "text_encoder_2").mkdir()
    with pytest.raises(CheckpointError, match=r"SDXL.*text_encoder_2/"):
        converted(folder)
    (folder / "text_encoder_2").rmdir()
    (folder / "vae/diffusion_pytorch_model.safetensors").rename(folder / "vae/odd.safetensors")
    with pytest.raises(CheckpointError, match=r"vae/ has no weight file .* odd\.safetensors"):
        converted(folder)
    (folder / "vae/odd.safetensors").rename(folder / "vae/diffusion_pytorch_model.safetensors")
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    (folder / "text_encoder").rmdir()
    with pytest.raises(CheckpointError, match=r"the text encoder is missing"):
        converted(folder)


def test_what_a_scheduler_knows_is_carried_on(folder: Path, converted: Converted) -> None:
    (folder / "scheduler").mkdir()
    config = {"prediction_type": "v_prediction", "_class_name": ["evil", "Pipeline"]}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    converted(folder)
    content = (folder.parent / "out.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"]["modelspec.prediction_type"] == "v"
    assert b"evil" not in content


@pytest.mark.parametrize(
    ("file", "config", "said"),
    [
        ("config.json", {"_class_name": "ControlNetModel"}, "says ControlNetModel"),
        ("config.json", {"architectures": ["CLIPTextModel"]}, "says CLIPTextModel"),
        ("adapter_config.json", {"peft_type": "LORA"}, "says LORA"),
        ("config.json", {"architectures": {"a": 1}}, "it has no unet/"),
        ("config.json", {"architectures": []}, "it has no unet/"),
    ],
)
def test_a_component_alone_in_a_folder_is_named(
    file: str, config: object, said: str, converted: Converted, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / file).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"no diffusers model.*{said}"):
        converted(tmp_path / "in")
