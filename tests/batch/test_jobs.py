"""What a batch is about, and what it keeps of it: inputs, jobs, ledger, claims."""

import errno
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from erasepro_convert.batch.fingerprint import file_state, take_fingerprint
from erasepro_convert.batch.inputs import MATCH, Input, describe_passed_over, find_inputs
from erasepro_convert.batch.jobs import (
    NAME,
    NamedRecipe,
    pair_all,
    read_recipe_or_jobs,
    require_distinct,
)
from erasepro_convert.batch.ledger import LEDGER, Entry, InputRecord, Ledger
from erasepro_convert.batch.locks import FOLDER, Locks
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.recipe import load_recipe
from tests.conftest import VAN_GOGH


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, and the current one."""
    for name in (
        "models/a.safetensors",
        "models/b.ckpt",
        "models/notes.txt",
        "models/.hidden.ckpt",
        "models/deep/er/c.pt",
        "models/deep/.git/d.ckpt",
        "models/diffusers/unet/diffusion_pytorch_model.safetensors",
        "models/out/a-erased.safetensors",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*given: str, match: tuple[str, ...] = MATCH, out: str = "models/out") -> list[str]:
    return [str(one.path) for one in find_inputs(given, match, Path(out)).inputs]


@pytest.mark.usefixtures("here")
class TestInputs:
    def test_a_folder_stands_for_all_checkpoints_below_it(self) -> None:
        assert found("models") == [
            "models/a.safetensors",
            "models/b.ckpt",
            "models/diffusers",
            "models/deep/er/c.pt",
        ]

    def test_a_diffusers_model_is_one_checkpoint(self) -> None:
        assert found("models/diffusers") == ["models/diffusers"]

    def test_its_place_below_the_folder_is_known(self) -> None:
        places = {
            str(one.path): one.below for one in find_inputs(["models"], MATCH, Path("out")).inputs
        }
        assert places["models/deep/er/c.pt"] == PurePosixPath("deep/er")
        assert places["models/a.safetensors"] == PurePosixPath()

    def test_match(self) -> None:
        assert found("models", match=("b*", "c*")) == [
            "models/b.ckpt",
            "models/diffusers",
            "models/deep/er/c.pt",
        ]

    def test_a_pattern_that_the_shell_left_alone(self) -> None:
        assert found("models/**/*.pt") == ["models/deep/er/c.pt"]
        assert found("models/?.ckpt") == ["models/b.ckpt"]

    def test_a_name_with_the_characters_of_a_pattern(self) -> None:
        Path("models/[x].ckpt").touch()
        assert found("models/[x].ckpt") == ["models/[x].ckpt"]

    def test_links_are_followed_and_lead_nowhere_twice(self) -> None:
        Path("models/more").symlink_to("../models/deep")
        Path("models/deep/up").symlink_to("../../models")
        assert sorted(Path(path).name for path in found("models")) == [
            "a.safetensors",
            "b.ckpt",
            "c.pt",
            "diffusers",
        ]

    def test_each_once(self) -> None:
        assert found("models/b.ckpt", "./models/b.ckpt", "models/*.ckpt") == ["models/b.ckpt"]

    def test_what_is_not_there_is_left_to_its_turn(self) -> None:
        assert found("gone.ckpt") == ["gone.ckpt"]

    def test_all_that_uis_list_is_taken_in_any_case(self) -> None:
        names = {
            "A.SAFETENSORS", "b.sft", "c.bin", "D.Ckpt", "e.pth", "f.PT2", "g.pkl", "h.pt",
        }  # fmt: skip
        for name in names:
            (Path("more") / name).parent.mkdir(exist_ok=True)
            (Path("more") / name).touch()
        assert {Path(path).name for path in found("more")} == names
        assert found("more", match=("*.CKPT", "a*")) == ["more/A.SAFETENSORS", "more/D.Ckpt"]

    def test_what_is_passed_over_is_told_by_kind(self) -> None:
        for name in ("b.gguf", "C.GGUF", "x.onnx", "README"):
            Path("models/deep", name).touch()
        passed = find_inputs(["models"], MATCH, Path("models/out")).passed_over
        assert {what: sorted(paths) for what, paths in passed.items()} == {
            "*.txt": ["models/notes.txt"],
            "*.gguf": ["models/deep/C.GGUF", "models/deep/b.gguf"],
            "*.onnx": ["models/deep/x.onnx"],
            "no suffix": ["models/deep/README"],
            "hidden": ["models/.hidden.ckpt", "models/deep/.git"],
            "output folder": ["models/out"],
        }
        assert describe_passed_over(passed).startswith(
            "2 *.gguf, 2 hidden, 1 *.onnx, 1 *.txt, 1 no suffix, "
        )

    def test_a_folder_that_cannot_be_read_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scandir = os.scandir

        def refused(path: str) -> Any:
            if str(path) == "models/deep":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refused)
        passed = find_inputs(["models"], MATCH, Path("out")).passed_over
        assert passed["folder that cannot be read"] == ["models/deep"]

    def test_a_uis_folder_of_unets_makes_no_model_of_what_is_around_it(self) -> None:
        """ComfyUI's own: models/unet/ beside models/checkpoints/."""
        for name in ("ui/unet/flux.safetensors", "ui/checkpoints/a.ckpt", "ui/vae/b.pt"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        assert found("ui") == [
            "ui/checkpoints/a.ckpt",
            "ui/unet/flux.safetensors",
            "ui/vae/b.pt",
        ]

    def test_a_repository_has_parts_and_whole_checkpoints(self) -> None:
        """As runwayml's; its parts are no checkpoints of their own, whatever leads to them."""
        for name in (
            "hub/sd/model_index.json",
            "hub/sd/unet/diffusion_pytorch_model.fp16.bin",
            "hub/sd/text_encoder/model.safetensors",
            "hub/sd/safety_checker/pytorch_model.bin",
            "hub/sd/v1-5-pruned.ckpt",
            "hub/flux/model_index.json",
            "hub/flux/transformer/diffusion_pytorch_model.safetensors",
        ):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        assert found("hub") == ["hub/flux", "hub/sd", "hub/sd/v1-5-pruned.ckpt"]
        search = find_inputs(["hub/**/*.[bc]*"], MATCH, Path("o"))
        assert [str(one.path) for one in search.inputs] == ["hub/sd/v1-5-pruned.ckpt"]
        assert search.passed_over == {
            "part of a diffusers folder": [
                "hub/sd/safety_checker/pytorch_model.bin",
                "hub/sd/unet/diffusion_pytorch_model.fp16.bin",
            ]
        }

    def test_a_pattern_takes_no_output_for_an_input(self) -> None:
        search = find_inputs(["models/**/*.safetensors"], MATCH, Path("models/out"))
        assert [str(one.path) for one in search.inputs] == ["models/a.safetensors"]
        assert search.passed_over["output folder"] == ["models/out/a-erased.safetensors"]

    def test_a_name_that_begins_like_the_output_folder_is_not_in_it(self) -> None:
        for name in ("models/outdoor.safetensors", "models/outer/a.ckpt"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        assert {"models/outdoor.safetensors", "models/outer/a.ckpt"} <= {*found("models")}

    @pytest.mark.parametrize("given", ["models/deep/*.zip", "models/out"])
    def test_nothing_there(self, given: str) -> None:
        with pytest.raises(UsageError, match="no checkpoint"):
            found(given)


@pytest.fixture
def recipe(here: Path) -> Path:
    path = here / "van-gogh.yaml"
    path.write_text(VAN_GOGH)
    return path


class TestJobs:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            (NAME, "deep/a-sky.safetensors"),
            ("{stem}.{recipe}.safetensors", "a.sky.safetensors"),
            ("{recipe}/{folder}/{stem}_{suffix}.safetensors", "sky/deep/a_ckpt.safetensors"),
            ("{stem}/", "a/"),
            ("./x//{stem}.safetensors", "x/a.safetensors"),
            ("{stem}\n\udcff.safetensors", "a\\n\\udcff.safetensors"),
        ],
    )
    def test_names(self, recipe: Path, template: str, expected: str) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        (job,) = pair_all([named], [Input(Path("m/deep/a.ckpt"), PurePosixPath("deep"))], template)
        assert job.output == expected

    @pytest.mark.parametrize(
        "template",
        ["{nothing}.safetensors", "{", "{0}.safetensors", "{stem.x}", "{stem}.ckpt", "{stem}"],
    )
    def test_names_that_are_none(self, recipe: Path, template: str) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        with pytest.raises(UsageError):
            pair_all([named], [Input(Path("a.ckpt"))], template)

    @pytest.mark.parametrize("template", ["/{stem}.safetensors", "../{stem}.safetensors", "/"])
    def test_names_elsewhere(self, recipe: Path, template: str) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        with pytest.raises(UsageError, match="below the output folder"):
            pair_all([named], [Input(Path("a.ckpt"))], template)

    @pytest.mark.parametrize("template", ["{recipe}.safetensors", "{recipe}/"])
    def test_two_of_one_name(self, recipe: Path, template: str) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        with pytest.raises(UsageError, match=r"several jobs would write sky.*--name"):
            require_distinct(
                pair_all([named], [Input(Path("a.ckpt")), Input(Path("b.ckpt"))], template)
            )

    def test_inputs_of_one_stem_are_named_with_a_way_out(self, recipe: Path) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        inputs = [Input(Path(name)) for name in ("m/a.ckpt", "m/a.safetensors", "m/A.sft")]
        with pytest.raises(UsageError) as raised:
            require_distinct(pair_all([named], inputs, NAME))
        assert str(raised.value) == (
            "several jobs would write a-sky.safetensors (of m/a.ckpt and m/a.safetensors); --name "
            "gives outputs other names, such as '{folder}/{stem}.{suffix}-{recipe}.safetensors'"
        )
        template = "{folder}/{stem}.{suffix}-{recipe}.safetensors"
        require_distinct(pair_all([named], inputs, template), caseless=True)

    def test_names_in_capitals_where_these_are_the_same(self, recipe: Path) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        jobs = pair_all([named], [Input(Path("m/a.ckpt")), Input(Path("m/A.sft"))], NAME)
        require_distinct(jobs)
        with pytest.raises(UsageError, match=r"a-sky.safetensors \(of m/a.ckpt and m/A.sft\)"):
            require_distinct(jobs, caseless=True)

    def test_one_inside_another(self, recipe: Path) -> None:
        named = NamedRecipe("sky", load_recipe(recipe))
        inside = pair_all([named], [Input(Path("a.ckpt"))], "x/{stem}.safetensors")
        with pytest.raises(UsageError, match="several jobs would write x/a"):
            require_distinct(inside + pair_all([named], [Input(Path("x.ckpt"))], "{stem}/"))

    def test_a_job_file(self, here: Path, recipe: Path) -> None:
        (here / "jobs.yaml").write_text(
            "version: 1\njobs:\n- {recipe: van-gogh.yaml, input: models/b.ckpt}\n"
            "- {recipe: van-gogh.yaml, input: models/diffusers, output: x/y.safetensors}\n"
        )
        jobs = read_recipe_or_jobs(here / "jobs.yaml", NAME)
        assert isinstance(jobs, list)
        assert [(job.source, job.output) for job in jobs] == [
            (here / "models/b.ckpt", "b-van-gogh.safetensors"),
            (here / "models/diffusers", "x/y.safetensors"),
        ]
        assert jobs[0].recipe == load_recipe(recipe)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("jobs: []", "jobs.yaml:1: version: field required"),
            ("version: 1\njobs: []", "jobs.yaml:2: jobs: "),
            ("version: 1\njobs:\n- {recipe: a.yaml}", "jobs.yaml:3: jobs.0.input: field required"),
            ("version: 1\njobs:\n- recipe: a.yaml\n  input: 3", "jobs.yaml:4: jobs.0.input: "),
            ("version: 1\njobs: 7", "jobs.yaml:2: jobs: "),
        ],
    )
    def test_mistakes_have_their_line(self, here: Path, text: str, message: str) -> None:
        (here / "jobs.yaml").write_text(text)
        with pytest.raises(RecipeError) as raised:
            read_recipe_or_jobs(here / "jobs.yaml", NAME)
        assert message in str(raised.value)


def entry(output: str = "a.safetensors", **changes: Any) -> Entry:
    read = InputRecord(path="a.ckpt", size=1, state="s", fingerprint=None, sha256=None)
    values: dict[str, Any] = {
        "output": output,
        "outcome": "refused",
        "reason": "because",
        "tool": "1",
        "recipe": "r",
        "recipe_sha256": "0" * 64,
        "options_sha256": "0" * 64,
        "input": read,
        "written": None,
        "same_as": None,
        "figures": None,
        "worker": "here:1",
        "finished": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    return Entry(**values | changes)


class TestLedger:
    def test_the_last_line_counts(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path)
        for one in (entry("a"), entry("b"), entry("a", reason="another")):
            ledger.append(one)
        again = Ledger(tmp_path)
        assert [*again.latest] == ["b", "a"]
        assert again.get("a") == entry("a", reason="another") == ledger.get("a")
        assert again.get("c") is None

    def test_two_at_once(self, tmp_path: Path) -> None:
        one, two = Ledger(tmp_path), Ledger(tmp_path)
        one.append(entry("a"))
        assert two.get("a") is None
        assert two.refresh()
        assert two.get("a") == entry("a")
        assert not two.refresh()

    @pytest.mark.parametrize("cut", [2, 20, 200])
    def test_a_line_that_was_cut_short_is_passed_over(self, tmp_path: Path, cut: int) -> None:
        ledger = Ledger(tmp_path)
        ledger.append(entry("a"))
        ledger.append(entry("b"))
        os.truncate(ledger.path, ledger.path.stat().st_size - cut)
        again = Ledger(tmp_path)
        assert [*again.latest] == ["a"]
        again.append(entry("c"))
        assert [*Ledger(tmp_path).latest] == ["a", "c"]

    def test_another_file_of_that_name_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / LEDGER).write_text("my notes\n")
        with pytest.raises(UsageError, match="not a batch's record"):
            Ledger(tmp_path)
        assert (tmp_path / LEDGER).read_text() == "my notes\n"

    def test_a_file_that_is_refused_is_closed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / LEDGER).write_text("my notes\n")
        closed: list[int] = []
        real_close = os.close

        def close(descriptor: int) -> None:
            closed.append(descriptor)
            real_close(descriptor)

        monkeypatch.setattr(os, "close", close)
        with pytest.raises(UsageError, match="not a batch's record"):
            Ledger(tmp_path)
        assert len(closed) == 1


class TestClaims:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        ours, theirs = Locks(tmp_path), Locks(tmp_path)
        claim = ours.acquire("a")
        assert claim
        assert theirs.acquire("a") is None
        other = theirs.acquire("b")
        assert other
        claim.release()
        again = theirs.acquire("a")
        assert again
        assert not again.was_replaceable
        for one in (again, other):
            one.release()
        ours.remove_folder()
        assert not (tmp_path / FOLDER).exists()

    def test_the_folder_stays_while_it_is_needed(self, tmp_path: Path) -> None:
        claims = Locks(tmp_path)
        claim = claims.acquire("a")
        Locks(tmp_path).remove_folder()
        assert claims.acquire("a") is None
        assert claim
        claim.release()

    def test_what_a_dead_batch_claimed_can_be_taken_and_is_known(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; "
            "from erasepro_convert.batch.locks import Locks; "
            f"claim = Locks(Path({str(tmp_path)!r})).acquire('a'); "
            "claim.mark_replaceable(); os._exit(9)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
        claim = Locks(tmp_path).acquire("a")
        assert claim
        assert claim.was_replaceable
        claim.release()
        fresh = Locks(tmp_path).acquire("a")
        assert fresh
        assert not fresh.was_replaceable
        fresh.release()


class TestKnownAgain:
    def test_a_change_shows_in_the_state(self, tmp_path: Path) -> None:
        file = tmp_path / "a"
        file.write_bytes(b"one")
        before, times = file_state(tmp_path), file.stat()
        file.write_bytes(b"two")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync and others do
        assert file_state(tmp_path) != before
        assert file_state(tmp_path)[0] == before[0] == 3

    @pytest.mark.parametrize("size", [1, 5000, 200_000])
    def test_the_ends_and_the_size_are_in_the_fingerprint(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "a"
        found = set()
        for content in (
            b"a" * size,
            b"a" * (size + 1),
            b"b" + b"a" * (size - 1),
            b"a" * (size - 1) + b"c",
        ):
            file.write_bytes(content)
            found.add(take_fingerprint(file))
        assert len(found) == 4
        assert take_fingerprint(tmp_path) is None
        os.mkfifo(tmp_path / "pipe")
        assert take_fingerprint(tmp_path / "pipe") is None
