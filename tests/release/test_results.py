"""What lies beside a release is read whole, is of that very release, or is refused."""

import json
import shutil
from pathlib import Path

import pytest

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.release.results import read_results, require_unchanged
from tests.conftest import Cli
from tests.release.measured import evaluation, measure, stress


def test_what_commands_write_is_what_is_read(erased: Path) -> None:
    """The models here and the dataclasses of both commands have the same fields."""
    measure(erased)
    results = read_results(erased)
    assert results.evaluation
    assert results.stress
    written = json.loads(json.dumps(evaluation(erased).to_data()))
    for name, value in results.evaluation.model_dump(mode="json", exclude={"prompts"}).items():
        assert _covers(written[name], value), name
    assert [prompt.role for prompt in results.evaluation.prompts] == ["target", "implied", "other"]
    written = json.loads(json.dumps(stress(erased, drawn=True).to_data()))
    assert _covers(written, results.stress.model_dump(mode="json"))


def _covers(written: object, read: object) -> bool:
    """Whether what was read is a part of what was written."""
    if isinstance(written, dict) and isinstance(read, dict):
        return all(_covers(written[key], value) for key, value in read.items())
    if isinstance(written, list) and isinstance(read, list):
        return len(written) == len(read) and all(map(_covers, written, read))
    return written == read


@pytest.mark.parametrize("ending", [".safetensors", ".manifest.json"])
def test_an_output_is_found_by_its_name_or_its_manifests(erased: Path, ending: str) -> None:
    measure(erased)
    results = read_results(erased.with_suffix(ending))
    assert results.output == erased
    beside = ("manifest.json", "evaluation.json", "stress.json", "before-after.png")
    assert [path.name for path in results.files] == [
        "out.safetensors",
        *(f"out.{e}" for e in beside),
    ]


def test_what_is_not_there_is_none(erased: Path) -> None:
    results = read_results(erased)
    assert (results.evaluation, results.stress, results.pictures, results.report) == (None,) * 4


def test_a_report_counts_where_it_is_of_this_manifest(cli: Cli, erased: Path) -> None:
    erased.with_suffix(".html").write_text("another page", encoding="utf-8")
    assert read_results(erased).report is None
    assert cli("report", erased.with_suffix(".manifest.json"), "--force").code == 0
    assert read_results(erased).report == erased.with_suffix(".html")


@pytest.mark.parametrize("kind", ["evaluation", "stress"])
def test_results_of_another_checkpoint_are_refused(erased: Path, kind: str) -> None:
    measure(erased)
    path = erased.with_suffix(f".{kind}.json")
    other = json.loads(path.read_text("utf-8")) | {"erased_sha256": "f" * 64}
    path.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(UsageError, match=f"out.{kind}.json: is of another checkpoint"):
        read_results(erased)


@pytest.mark.parametrize("kind", ["evaluation", "stress"])
def test_results_beside_another_original_are_refused(erased: Path, kind: str) -> None:
    measure(erased)
    path = erased.with_suffix(f".{kind}.json")
    other = json.loads(path.read_text("utf-8")) | {"original_sha256": "f" * 64}
    path.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"out.{kind}.json: compares with another original"):
        read_results(erased)


@pytest.mark.parametrize(("kind", "part"), [("evaluation", "figures"), ("stress", "rows")])
def test_results_about_another_target_are_refused(erased: Path, kind: str, part: str) -> None:
    measure(erased)
    path = erased.with_suffix(f".{kind}.json")
    found = json.loads(path.read_text("utf-8"))
    found[part][0]["concept"] = "Monet"
    path.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UsageError, match=r"is about 'Monet', which was not erased here"):
        read_results(erased)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "the file: invalid json"),
        ("[]", "the file: input should be an object"),
        ('{"tool": "0.1.0"}', "original_sha256: field required"),
    ],
)
def test_a_file_that_is_something_else_is_refused(erased: Path, text: str, said: str) -> None:
    erased.with_suffix(".stress.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="not what stress writes") as refused:
        read_results(erased)
    assert said in str(refused.value)


def test_a_figure_that_is_no_number_is_refused(erased: Path) -> None:
    measure(erased)
    path = erased.with_suffix(".evaluation.json")
    path.write_text(path.read_text("utf-8").replace("0.125", "NaN"), encoding="utf-8")
    with pytest.raises(UsageError, match="input should be a finite number"):
        read_results(erased)


def test_what_is_missing_is_named(erased: Path) -> None:
    with pytest.raises(UsageError, match=r"other.safetensors: there is no such file"):
        read_results(erased.with_name("other.safetensors"))
    erased.with_suffix(".manifest.json").unlink()
    with pytest.raises(UsageError, match=r"its manifest, .*out.manifest.json, is not there"):
        read_results(erased)


def test_a_dry_run_wrote_nothing_to_publish(erased: Path) -> None:
    manifest = erased.with_suffix(".manifest.json")
    data = json.loads(manifest.read_text("utf-8"))
    data["output"]["written"] = False
    manifest.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match="is of a dry run"):
        read_results(manifest)


def test_one_changed_byte_is_found(erased: Path) -> None:
    require_unchanged(read_results(erased))
    content = bytearray(erased.read_bytes())
    content[-1] ^= 1
    erased.write_bytes(content)
    with pytest.raises(VerificationError, match=r"is not what its manifest says: .*SHA-256"):
        require_unchanged(read_results(erased))


def test_an_output_that_is_gone_is_missed(erased: Path) -> None:
    moved = erased.with_name("moved.safetensors")
    shutil.move(erased, moved)
    with pytest.raises(VerificationError, match="expected there, found missing"):
        require_unchanged(read_results(erased.with_suffix(".manifest.json")))


@pytest.mark.parametrize("command", ["card", "evidence"])
def test_a_hostile_name_in_refused_results_is_readable_and_harmless(
    command: str, cli: Cli, erased: Path
) -> None:
    measure(erased)
    path = erased.with_suffix(".stress.json")
    written = json.loads(path.read_text("utf-8"))
    written["rows"][0]["concept"] = "a\tb\x1b[31m c:\\d it's"
    path.write_text(json.dumps(written), encoding="utf-8")
    ran = cli(command, erased)
    assert ran.code == 2
    assert r"is about 'a\tb\x1b[31m c:\d it's', which was not erased here" in ran.err
    path.write_text(json.dumps(written | {"rows": [{"\x1b]0;title\x07": 1}]}), encoding="utf-8")
    ran = cli(command, erased)
    assert ran.code == 2
    assert r"not what stress writes: rows.0." in ran.err
    assert ran.err.rstrip().isprintable()
