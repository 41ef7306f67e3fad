"""The command line as a user meets it: help, exit codes, messages, output, cleanliness."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasepro_convert import __version__
from erasepro_convert.cli import group
from erasepro_convert.cli.convert import convert_command
from erasepro_convert.errors import describe_error, exit_code_of
from tests.conftest import SHORT, VAN_GOGH, Cli, WriteRecipe
from tests.miniature import State

COMMANDS = Path("docs/commands.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_conversion_says_what_it_did(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    ran = cli("--details", van_gogh, checkpoint_file, target)
    assert (ran.code, ran.err) == (0, "")
    assert target.exists()
    assert target.with_suffix(".manifest.json").exists()
    lines = ran.out.splitlines()
    assert lines[0].startswith("mini.safetensors: stable-diffusion-v1, safetensors, ")
    layers = [line.split()[0] for line in lines if line.startswith(("text_encoder.", "unet."))]
    assert len(layers) == 12 + 16
    assert f"wrote {target}" in ran.out
    manifest = json.loads(target.with_suffix(".manifest.json").read_text())
    assert manifest["output"]["files"][0]["sha256"] in ran.out


@pytest.mark.slow
def test_no_colours_and_no_bars_without_a_terminal(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    ran = cli(van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    assert "\x1b" not in ran.out + ran.err
    assert "█" not in ran.out


@pytest.mark.slow
def test_bars_on_a_terminal(
    cli: Cli,
    van_gogh: Path,
    checkpoint_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rich takes FORCE_COLOR for a terminal; the bars then shrink with depth as the updates do."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    ran = cli("--details", van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    assert ran.out.count("█") > 28
    assert "hashing the input" in ran.out


@pytest.mark.slow
def test_json_prints_the_manifest_alone(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    ran = cli("--json", van_gogh, checkpoint_file, target)
    assert ran.out == target.with_suffix(".manifest.json").read_text(encoding="utf-8")
    assert "Erased from mini.safetensors:" in ran.err


@pytest.mark.slow
def test_quiet_prints_nothing(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    ran = cli("--quiet", van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.slow
def test_a_dry_run_says_so(cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> None:
    """And which digest the file would have, in the table and as JSON."""
    target = tmp_path / "out.safetensors"
    ran = cli(van_gogh, checkpoint_file, target, "--dry-run")
    assert ran.code == 0
    assert "dry run: nothing was written" in ran.out
    assert not target.exists()
    as_json = cli("--dry-run", "--json", van_gogh, checkpoint_file, target)
    assert cli(van_gogh, checkpoint_file, target).code == 0
    digest = sha256(target.read_bytes()).hexdigest()
    assert re.search(rf"it would be .* MB, AutoV2 {digest[:10]}\n", ran.out)
    assert json.loads(as_json.out)["output"]["files"][0]["sha256"] == digest


@pytest.mark.slow
def test_an_existing_output_is_only_replaced_by_force(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    for existing in ("out.safetensors", "out.manifest.json"):
        (tmp_path / existing).write_text("old")
        ran = cli(van_gogh, checkpoint_file, tmp_path / "out.safetensors")
        assert ran.code == 2
        assert f"{existing}: exists already; --force replaces it" in ran.err
        assert (tmp_path / existing).read_text() == "old"
        (tmp_path / existing).unlink()
    (tmp_path / "out.safetensors").write_text("old")
    assert cli("--force", van_gogh, checkpoint_file, tmp_path / "out.safetensors").code == 0
    (tmp_path / "dir.safetensors").mkdir()
    assert cli("--force", van_gogh, checkpoint_file, tmp_path / "dir.safetensors").code == 2


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
@pytest.mark.parametrize("options", [[], ["--force"], ["--dry-run"]])
def test_the_input_is_never_the_output(
    cli: Cli, van_gogh: Path, tmp_path: Path, link: object, options: list[str]
) -> None:
    """Neither by name nor through a link."""
    source = target = tmp_path / "in.safetensors"
    source.write_bytes(b"precious")
    if link is not None:
        target = tmp_path / "out.safetensors"
        link(source, target)  # type: ignore[operator]
    ran = cli(*options, van_gogh, source, target)
    assert ran.code == 2
    assert f"{target}: this would replace {source}, which is read" in ran.err
    assert source.read_bytes() == b"precious"


def test_wrong_paths(cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path) -> None:
    cases = {
        (tmp_path / "none.ckpt", tmp_path / "out.safetensors"): "there is no such file",
        (checkpoint_file, tmp_path / "out.ckpt"): "must end in .safetensors",
        (checkpoint_file, tmp_path / "none" / "out.safetensors"): "its folder does not exist",
    }
    for (source, target), message in cases.items():
        ran = cli(van_gogh, source, target)
        assert ran.code == 2
        assert message in ran.err
    assert cli().code == 2
    assert cli(van_gogh).code == 2
    ran = cli("--dytpe", "fp16", van_gogh, checkpoint_file, "out.safetensors")
    assert ran.code == 2
    assert "--dtype" in ran.err


def test_a_refused_checkpoint_exits_with_4(cli: Cli, van_gogh: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.ckpt"
    torch.save({"lora_unet_x": torch.ones(1)}, source)
    ran = cli(van_gogh, source, tmp_path / "out.safetensors")
    assert ran.code == 4
    assert ran.err.startswith(
        "error: in.ckpt: not a Stable Diffusion 1.x checkpoint: this is a LoRA"
    )
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.slow
def test_a_result_that_does_not_hold_exits_with_3(
    cli: Cli, van_gogh: Path, state: State, tmp_path: Path
) -> None:
    large = {**state, "model.diffusion_model.out.2.bias": torch.full((4,), 1e5)}
    torch.save(large, tmp_path / "in.ckpt")
    ran = cli("--dtype", "fp16", van_gogh, tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    assert ran.code == 3
    assert "has values too large for F16, up to 1e+05: use --dtype bf16\n" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ckpt", "recipe.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "dtype", "advice"),
    [
        (1e39, "fp32", "too large for F32, up to 1e+39: no --dtype holds them; without it"),
        (1e39, "fp16", "too large for F16, up to 1e+39: no --dtype holds them; without it"),
        (3.4e38, "bf16", "too large for BF16, up to 3.4e+38: use --dtype fp32"),
        (-3e38, "fp16", "too large for F16, up to 3e+38: use --dtype bf16"),
    ],
)
def test_a_type_that_can_hold_a_value_is_named(
    cli: Cli, van_gogh: Path, state: State, tmp_path: Path, value: float, dtype: str, advice: str
) -> None:
    bias = torch.tensor([1e5, value, 0, 1], dtype=torch.float64)
    torch.save({**state, "model.diffusion_model.out.2.bias": bias}, tmp_path / "in.ckpt")
    ran = cli("--dtype", dtype, van_gogh, tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    assert ran.code == 3
    assert f"model.diffusion_model.out.2.bias has values {advice}" in ran.err


@pytest.mark.slow
def test_conflicts_of_the_first_layer_are_counted_for_themselves(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    """Prompts that differ only later are one column there, so it can have fewer conflicts."""
    again = "concepts: [{target: Van Gogh, anchor: dog, prompts: ['{}', '{} a', '{} b']}, "
    text = VAN_GOGH.replace("concepts: [", again).replace('["{}"]', "['{}', '{} a', '{} b']")
    command = (
        "--dry-run",
        "--json",
        "--details",
        write_recipe(text),
        checkpoint_file,
        tmp_path / "o.safetensors",
    )
    ran = cli(*command)
    alignment = json.loads(ran.out)["alignment"]
    first, deeper = (len(alignment[k]["conflicts"]) for k in ("first_layer", "deeper_layers"))
    assert 1 < first < deeper
    assert f"before any attention: {first} of its columns conflict (" in ran.err


@pytest.mark.slow
def test_a_clip_skip_of_the_metadata_is_not_called_another(
    cli: Cli, write_recipe: WriteRecipe, checkpoint_file: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.safetensors"
    save_file(load_file(checkpoint_file), source, metadata={"modelspec.encoder_layer": "1"})
    recipe = write_recipe(VAN_GOGH + "clip_skip: [2]\n")
    ran = cli("--details", "--dry-run", recipe, source, tmp_path / "out.safetensors")
    assert "measured with clip skip 1 and 2, which the input's metadata ask for\n" in ran.out


MISSING = {
    "a recipe": ("none", "in", "out.safetensors"),
    "an input": ("recipe", "none", "out.safetensors"),
    "a text encoder": ("--text-encoder", "none", "recipe", "in", "out.safetensors"),
    "a probed checkpoint": ("probe", "recipe", "none"),
    "a probe's base": ("probe", "recipe", "in", "--base", "none"),
    "a checkpoint for words": ("suggest", "none", "word"),
    "an inspected file": ("inspect", "none"),
    "a release": ("verify", "none"),
    "a manifest": ("report", "none"),
    "a previewed output": ("preview", "none", "--base", "in", "--recipe", "recipe"),
    "a preview's base": ("preview", "in", "--base", "none", "--recipe", "recipe"),
    "a judged output": ("evaluate", "recipe", "none", "--base", "in"),
    "an evaluation's base": ("evaluate", "recipe", "in", "--base", "none"),
    "prompts": ("evaluate", "recipe", "in", "--base", "in", "--prompts", "none"),
    "a compared input": ("compare", "recipe", "none"),
    "an attacked output": ("stress", "recipe", "none", "--base", "in"),
    "a batch's recipe": ("batch", "none", "in", "--out", "out"),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_file_is_wrong_usage(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path, case: str
) -> None:
    places = {
        "recipe": van_gogh,
        "in": checkpoint_file,
        "none": tmp_path / ("none.yaml" if "recipe" in case else "none.ckpt"),
        "out.safetensors": tmp_path / "out.safetensors",
        "out": tmp_path / "out",
    }
    ran = cli(*(places.get(arg, arg) for arg in MISSING[case]))
    assert ran.code == 2
    assert "none." in ran.err
    assert re.search("there is no such file|does not exist", ran.err)
    assert "Errno" not in ran.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "?", "x"), 2, "x: there is no such file"),
        (PermissionError(errno.EACCES, "?", "x"), 2, "x: this user may not read or write it"),
        (IsADirectoryError(errno.EISDIR, "?", b"x"), 2, "x: is a folder, not a file"),
        (NotADirectoryError(errno.ENOTDIR, "?", "x"), 2, "x: a part of this path is a file, not"),
        (OSError(errno.ENOSPC, "?"), 1, "the disk is full"),
        (OSError(errno.ENOSPC, "?", "x"), 1, "x: the disk is full"),
        (OSError(errno.EIO, "?", "x"), 1, "x: the disk cannot read or write it"),
        (OSError(errno.ENOTTY, "words of the system"), 1, "words of the system"),
        (OSError(errno.ENOENT, "no directory for temporary files"), 1, "no directory for"),
        (OSError("words of a library"), 1, "words of a library"),
    ],
)
def test_what_the_system_says_has_words_and_a_code(error: OSError, code: int, words: str) -> None:
    assert exit_code_of(error) == code
    assert describe_error(error).startswith(words)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("inspct", "x"), "'inspct' is no command and no recipe; did you mean inspect?"),
        (("prob", "r.yaml", "in.ckpt"), "did you mean probe?"),
        (("INSPECT", "x"), "did you mean inspect?"),
        (("bataman", "in.ckpt"), "'bataman' is no command and no recipe; did you mean batman?"),
        (("nonsense",), "'nonsense' is no command and no recipe; known are batch, card, check,"),
        (("--quiet", "evalute", "x"), "did you mean evaluate?"),
        (("--json", "inspect", "x"), "options come after the command: inspect --json …"),
        (("r.yaml",), "Missing argument 'IN'"),
        (("in.ckpt", "out.ckpt"), "Missing argument: nothing says what to erase"),
        (("r.yaml", "in.ckpt"), "Invalid value for 'IN': 'r.yaml' is a recipe by its name"),
        (("r.yaml", "in.ckpt", "out.safetensors", "more"), "unexpected extra argument"),
    ],
)
def test_a_mistyped_command_line_is_told(cli: Cli, args: tuple[str, ...], told: str) -> None:
    ran = cli(*args)
    assert ran.code == 2
    assert told in ran.err
    assert "[OPTIONS] RECIPE IN OUT" in ran.err


RECIPE_HERE = "is a recipe by its name, and a checkpoint goes here"
CHECKPOINT_HERE = "'a.ckpt' is a checkpoint by its name, and a recipe goes here"


@pytest.mark.parametrize(
    ("args", "usage", "told"),
    [
        (("a.ckpt", "b.ckpt", "c.ckpt"), "convert [OPTIONS] RECIPE IN OUT", CHECKPOINT_HERE),
        (("a.ckpt", "r.yaml", "c.ckpt"), "convert [OPTIONS] RECIPE IN OUT", RECIPE_HERE),
        (
            ("preview", "r.yaml", "a"),
            "preview --base IN --recipe RECIPE [OPTIONS] OUT",
            RECIPE_HERE,
        ),
        (
            ("preview", "nudity", "a"),
            "preview --base IN",
            "is the name of a recipe, and a checkpoint",
        ),
        (("evaluate", "a.ckpt", "r.YML"), "evaluate --base IN [OPTIONS] RECIPE OUT", RECIPE_HERE),
        (("stress", "a.ckpt", "r.yaml"), "stress --base IN [OPTIONS] RECIPE OUT", RECIPE_HERE),
        (("compare", "a.ckpt", "b.ckpt"), "compare [OPTIONS] RECIPE IN", CHECKPOINT_HERE),
        (("compare", "a.ckpt", "r.yaml"), "compare [OPTIONS] RECIPE IN", RECIPE_HERE),
        (("probe", "a.ckpt", "r.yaml"), "probe [OPTIONS] RECIPE CKPT...", CHECKPOINT_HERE),
        (("probe", "nudity", "r.yaml"), "probe [OPTIONS] RECIPE CKPT...", RECIPE_HERE),
        (("suggest", "dog", "a.ckpt"), "suggest [OPTIONS] CKPT WORD", "it comes before WORD"),
        (("suggest", "r.yaml", "dog"), "suggest [OPTIONS] CKPT WORD", RECIPE_HERE),
        (("verify", "r.yaml"), "verify [OPTIONS] OUT", RECIPE_HERE),
        (("report", "r.yaml"), "report [OPTIONS] OUT", RECIPE_HERE),
        (("card", "r.yaml", "a.ckpt"), "card [OPTIONS] OUT", RECIPE_HERE),
        (("evidence", "r.yaml"), "evidence [OPTIONS] OUT", RECIPE_HERE),
        (("recipes", "mouse"), "recipes [OPTIONS]", "did you mean: recipes search mouse"),
        (("recipes", "van-gogh"), "recipes [OPTIONS]", "did you mean: recipes show van-gogh"),
    ],
)
def test_what_stands_in_the_wrong_place_is_told_with_the_right_one(
    cli: Cli, args: tuple[str, ...], usage: str, told: str
) -> None:
    ran = cli(*args)
    assert ran.code == 2
    assert told in ran.err
    assert f"Usage: erasepro-convert {usage}" in ran.err


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("probe.yaml", "there is no such file"),
        ("./probe", "there is no such file"),
        ("my_own-words", "'my_own-words' is neither a file nor the name of a recipe"),
    ],
)
def test_a_missing_recipe_is_no_mistyped_command(cli: Cli, recipe: str, told: str) -> None:
    ran = cli(recipe, "in.ckpt", "out.safetensors")
    assert ran.code == 2
    assert told in ran.err
    assert "did you mean" not in ran.err


def test_a_folder_without_a_manifest_has_no_report(cli: Cli, tmp_path: Path) -> None:
    for folder in (tmp_path, "."):
        ran = cli("report", folder)
        missing = Path(folder) / "manifest.json"
        said = f"error: {Path(folder)}: its manifest, {missing}, is not there\n"
        assert (ran.code, ran.err) == (2, said)


def test_a_recipe_may_be_named_like_a_command(
    cli: Cli, checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inspct").write_text(SHORT + "no: 1", encoding="utf-8")
    assert "inspct:4: no: unknown key" in cli("inspct", checkpoint_file, "out.safetensors").err


@pytest.mark.parametrize("command", [(), *((name,) for name in group.commands)])
def test_help_has_a_short_name(cli: Cli, command: tuple[str, ...]) -> None:
    assert cli(*command, "-h") == cli(*command, "--help")
    assert cli(*command, "-h").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_exits_with_130_and_leaves_nothing(
    name: str, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """In a process of its own, struck in the middle of writing."""
    script = f"""
import signal, sys
from erasepro_convert.output import staging
from erasepro_convert.cli import main
original = staging.stream
def struck(*args, **asked):
    signal.raise_signal(signal.{name})
    return original(*args, **asked)
staging.stream = struck
main(sys.argv[1:])
"""
    target = tmp_path / "out.safetensors"
    ran = run_script(script, van_gogh, checkpoint_file, target)
    assert ran.returncode == 130
    assert "interrupted: nothing was written" in ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


@pytest.mark.slow
def test_a_full_disk_exits_with_1_and_leaves_nothing(
    van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    """The kernel refuses the write in mid-file (a file size limit stands in for a full disk)."""
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))

    script = "import sys\nfrom erasepro_convert.cli import main\nmain(sys.argv[1:])"
    ran = run_script(script, "--force", van_gogh, checkpoint_file, target, before=limit)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safetensors", "recipe.yaml"]


def run_script(
    script: str, *args: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=before)


def test_help_and_version_need_no_torch() -> None:
    for option in ("--help", "--version"):
        script = f"""
import sys
from erasepro_convert.cli import main
main(["{option}"])
assert not {{"torch", "transformers", "diffusers", "rich", "pydantic"}} & set(sys.modules)
"""
        ran = run_script(script)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(
            ("Usage: erasepro-convert [OPTIONS] RECIPE IN OUT", "erasepro")
        )


@pytest.mark.slow
def test_the_main_command_has_a_name_too(
    cli: Cli, van_gogh: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    ran = cli("convert", "--dry-run", van_gogh, checkpoint_file, tmp_path / "out.safetensors")
    assert ran.code == 0
    assert __version__ in cli("--version").out


def test_every_option_has_help_and_stands_in_the_docs(cli: Cli) -> None:
    shown = cli("--help").out
    for parameter in convert_command.params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert getattr(parameter, "help", None), option
                assert option in shown
                assert f"`{option}" in COMMANDS, option
    for command in group.commands.values():
        assert command.help
