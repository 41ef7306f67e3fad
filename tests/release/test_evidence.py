"""Evidence stands alone, says what was not done, and every change of it is found."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from erasepro_convert import demo
from erasepro_convert import release as release_room
from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.cli import group
from erasepro_convert.errors import VerificationError
from erasepro_convert.manifest import read_manifest
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.recipe import load_recipe
from erasepro_convert.recipe.yaml_document import SIZE_LIMIT
from erasepro_convert.release.bundle import EVIDENCE, pack, read_bundle, writing_bundle
from erasepro_convert.release.evidence_model import Evidence, schema_json
from erasepro_convert.release.summaries import bundle_file
from erasepro_convert.release.verify_evidence import verify_evidence
from erasepro_convert.verification import Finding
from tests.conftest import Cli
from tests.release.made import Made, add_results, make

pytestmark = pytest.mark.slow

Change = Callable[[dict[str, Any]], None]
STATED = ("--release", "review=2027-06-01", "--quiet")
MEMBERS = (
    "README.txt", "before-after.png", "bom.cdx.json", "card.md", "evaluation.json",
    "evidence.json", "manifest.json", "recipe.yaml", "report.html", "stress.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def shared(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A release with all results beside it, and its evidence; treat it as read-only."""
    made = make(checkpoint_file, tmp_path_factory.mktemp("release"))
    add_results(made)
    group.main(["evidence", f"{made.output}", *STATED], standalone_mode=False)
    return made


@pytest.fixture
def made(shared: Made, tmp_path: Path) -> Made:
    """The same, to be changed."""
    return shared.moved_to(tmp_path)


def files_of(made: Made) -> dict[str, bytes]:
    return read_bundle(made.bundle)[0]


def findings(made: Made, files: dict[str, bytes] | None = None, **asked: Any) -> set[str]:
    """The kinds and places of all deviations, of other files in the bundle where given."""
    if files is not None:
        made.bundle.write_bytes(pack(files))
    found: tuple[Finding, ...] = verify_evidence(made.bundle, **asked).findings
    return {f"{finding.kind}: {finding.place}" for finding in found}


def resealed(files: dict[str, bytes], change: Change = lambda _: None) -> dict[str, bytes]:
    """The files with evidence that somebody wrote anew: digests of all of them, and a change."""
    data = json.loads(files[EVIDENCE])
    data["files"] = {
        name: bundle_file(content).model_dump()
        for name, content in files.items()
        if name not in (EVIDENCE, "evidence.sig")
    }
    change(data)
    return {**files, EVIDENCE: Evidence.model_validate(data).sealed().to_json().encode()}


def test_a_bundle_has_these_files_and_is_whole(shared: Made) -> None:
    assert tuple(sorted(files_of(shared), key=str.lower)) == tuple(sorted(MEMBERS, key=str.lower))
    verified = verify_evidence(shared.bundle)
    assert verified.findings == ()
    assert verified.checkpoint == shared.output
    unmade = {check for check, held in verified.checked.items() if held is None}
    assert unmade == {"signature"}


def test_the_same_release_gives_the_same_bytes(made: Made, cli: Cli, tmp_path: Path) -> None:
    before = made.bundle.read_bytes()
    assert cli("evidence", made.output, *STATED).code == 2, "exists already"
    assert cli("evidence", made.output, *STATED, "--force").code == 0
    assert made.bundle.read_bytes() == before
    assert cli("evidence", made.output, *STATED, "--out", tmp_path / "folder").code == 0
    assert read_bundle(tmp_path / "folder")[0] == files_of(made)
    assert findings(made) == set()


def test_a_bundle_stands_alone(shared: Made, tmp_path: Path, cli: Cli) -> None:
    alone = tmp_path / "renamed.zip"
    shutil.copy(shared.bundle, alone)
    ran = cli("verify", alone)
    assert ran.code == 0
    assert "– checkpoint: not checked (it does not lie beside: give --checkpoint OUT)" in ran.out
    assert cli("verify", alone, "--checkpoint", shared.output).code == 0
    assert cli("verify", alone, "--checkpoint", tmp_path / "none").code == 2


def test_it_says_what_was_done_and_what_was_not(shared: Made) -> None:
    evidence = verify_evidence(shared.bundle).evidence
    assert evidence.release.responsible == "Jane <script>alert(1)</script> Doe"
    assert evidence.release.review == "2027-06-01"
    assert evidence.evaluation
    assert (evidence.evaluation.seeds, evidence.evaluation.prompts) == (2, 3)
    assert evidence.stress
    made = [(run.attack, run.concepts, run.drawn) for run in evidence.stress.attacks]
    assert made == [("prefix", ("Van Gogh",), False), ("merge", ("Van Gogh",), True)]
    assert evidence.stress.attacks[0].budget == {"words_at_most": 1000}
    assert {attack.attack for attack in evidence.attacks_not_run} == {
        *DESCRIPTIONS.keys() - {"prefix", "merge"}
    }
    assert {way.name for way in evidence.known_ways_back} >= {"merging with the original"}
    assert evidence.checkpoint[0].sha256 == shared.manifest.output.files[0].sha256
    assert evidence.original[0].sha256 == shared.manifest.input.files[0].sha256


def test_an_attack_that_left_every_target_out_is_no_attack_that_was_not_made(
    made: Made, cli: Cli
) -> None:
    path = made.output.with_name("out.stress.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"rows": []}), encoding="utf-8")
    assert cli("evidence", made.output, *STATED, "--force").code == 0
    verified = verify_evidence(made.bundle)
    assert verified.findings == ()
    evidence = verified.evidence
    assert evidence.stress
    assert [(run.attack, run.concepts) for run in evidence.stress.attacks] == [
        ("prefix", ()),
        ("merge", ()),
    ]
    assert not {"prefix", "merge"} & {attack.attack for attack in evidence.attacks_not_run}
    assert "No attack was tried on Van Gogh." in evidence.not_tested


def test_what_is_absent_is_said_to_be_absent(
    checkpoint_file: Path, tmp_path: Path, cli: Cli
) -> None:
    made = make(checkpoint_file, tmp_path)
    ran = cli("evidence", made.output)
    assert ran.code == 0
    assert "No pictures were judged" in ran.out
    evidence = verify_evidence(made.bundle).evidence
    assert (evidence.evaluation, evidence.stress) == (None, None)
    assert len(evidence.attacks_not_run) == len(DESCRIPTIONS)
    assert "No day is set on which the release is looked at again." in evidence.not_stated
    assert "No pictures of before and after were drawn." in evidence.not_tested
    assert not {"evaluation.json", "stress.json", "before-after.png"} & files_of(made).keys()


def test_its_form_is_the_shipped_schema(shared: Made) -> None:
    shipped = Path(str(release_room.__file__)).with_name("evidence.schema.json")
    assert shipped.read_text("utf-8") == schema_json()
    validator = jsonschema.Draft202012Validator(json.loads(schema_json()))
    validator.validate(json.loads(files_of(shared)[EVIDENCE]))


def test_the_recipe_loads_to_the_manifests_digest(shared: Made, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(files_of(shared)["recipe.yaml"])
    assert load_recipe(path) == shared.manifest.recipe


def test_it_has_no_paths_of_this_machine_and_no_live_markup(shared: Made) -> None:
    for name, content in files_of(shared).items():
        assert str(shared.output.parent).encode() not in content, name
        assert name not in ("report.html", "card.md") or b"<script>alert" not in content


@pytest.mark.parametrize("name", MEMBERS)
def test_a_changed_byte_of_any_file_is_found(shared: Made, name: str, tmp_path: Path) -> None:
    """In a folder, where nothing but the digests tells."""
    files, folder = files_of(shared), tmp_path / "folder"
    with writing_bundle(folder, files, Inputs([]), ()):
        pass
    assert verify_evidence(folder).findings == ()
    content = files[name]
    for place in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / name).write_bytes(changed)
        assert name in deviations(folder), place
    (folder / name).unlink()
    assert name in deviations(folder)


def deviations(bundle: Path) -> str:
    """What a verification says, be it findings or a refusal."""
    try:
        return str(verify_evidence(bundle).findings)
    except VerificationError as error:
        return str(error)


def test_white_space_in_the_evidence_is_found(made: Made) -> None:
    files = files_of(made)
    files[EVIDENCE] += b"\n"
    assert findings(made, files) == {"evidence: evidence.json"}


def test_a_file_too_many_is_found(made: Made) -> None:
    assert findings(made, {**files_of(made), "more.txt": b""}) == {"bundle: more.txt"}


def test_a_bundle_that_was_zipped_anew_is_found(made: Made, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    shutil.unpack_archive(made.bundle, folder)
    made.bundle.unlink()
    shutil.make_archive(str(made.bundle.with_suffix("")), "zip", folder)
    ran = cli("verify", made.bundle)
    assert ran.code == 5
    assert "packed or encrypted" in ran.err
    assert cli("verify", folder, "--checkpoint", made.output).code == 0


def test_another_checkpoint_is_found(made: Made, cli: Cli) -> None:
    content = bytearray(made.output.read_bytes())
    content[-1] ^= 1
    made.output.write_bytes(content)
    assert "file: out.safetensors: SHA-256" in findings(made)
    ran = cli("evidence", made.output, "--force")
    assert ran.code == 5
    assert "is not what its manifest says" in ran.err


def test_manifest_and_evidence_name_one_another(made: Made, cli: Cli) -> None:
    record = read_manifest(made.record)
    evidence = verify_evidence(made.bundle).evidence
    assert record.evidence_sha256 == evidence.evidence_sha256
    assert record.manifest_sha256 == record.digest() == evidence.manifest_sha256
    assert cli("verify", made.output).code == 0

    forged = evidence.model_copy(update={"not_tested": ()})  # and it states the digest of before
    made.bundle.write_bytes(pack({**files_of(made), EVIDENCE: forged.to_json().encode()}))
    assert "link: manifest and evidence: evidence_sha256" in cli("verify", made.output).out
    made.bundle.write_bytes(pack({**files_of(made), EVIDENCE: evidence.to_json().encode()}))
    other = record.model_copy(update={"evidence_sha256": "0" * 64})
    made.record.write_text(other.to_json(), encoding="utf-8")
    assert findings(made) == {"link: manifest and evidence: evidence_sha256"}
    assert "link: manifest and evidence: evidence_sha256" in cli("verify", made.output).out
    made.bundle.write_bytes(b"no zip")
    assert "link: out.evidence.zip" in cli("verify", made.output).out


def test_earlier_evidence_is_said_to_be_superseded_and_what_to_do(made: Made, cli: Cli) -> None:
    later = made.output.with_name("later.zip")
    assert cli("evidence", made.output, "--force").code == 0
    same = cli("evidence", made.output, "--out", made.output.with_name("same.zip"))
    assert "superseded" not in same.out
    ran = cli("evidence", made.output, "--out", later, "--release", "contact=me@example.org")
    assert ran.code == 0
    assert f"superseded: remove it where it still lies, as {made.bundle}\n" in ran.out
    assert cli("verify", later).code == 0
    for place in (made.bundle, made.output):
        ran = cli("verify", place)
        assert ran.code == 5
        assert ", which the manifest beside the checkpoint names: the evidence that was" in ran.out
        assert ", other evidence: if you wrote some anew since, keep that and remove" in ran.out
    made.bundle.unlink()
    assert cli("verify", made.output).code == 0
    again = cli("evidence", made.output)
    assert "superseded: remove it where it still lies\n" in again.out
    assert cli("verify", made.bundle).code == 0


@pytest.mark.parametrize("name", ["new.zip", "new", "out.evidence.zip"])
def test_the_evidence_and_what_names_it_are_written_together_or_not_at_all(
    name: str, made: Made, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(old: Path, new: Path) -> None:
        if Path(new) == made.record:
            raise OSError(errno.ENOSPC, "full", str(new))
        replace(old, new)

    def there() -> dict[str, bytes]:
        folder = made.output.parent
        return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = there()
    monkeypatch.setattr(os, "replace", full)
    place = made.output.with_name(name)
    ran = cli("evidence", made.output, "--out", place, "--force", "--release", "contact=x@y.org")
    assert ran.code == 1
    assert "out.manifest.json: the disk is full" in ran.err
    assert there() == before
    monkeypatch.undo()
    assert cli("verify", made.bundle).code == 0


def test_a_manifest_that_cannot_be_replaced_is_said_before_the_work(
    made: Made, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != made.record.parent)
    elsewhere = made.output.parent / "elsewhere"
    elsewhere.mkdir()
    ran = cli("evidence", made.output, "--out", elsewhere / "e.zip")
    assert ran.code == 2
    assert f"{made.record.parent}: not a folder that can be written to" in ran.err
    assert not any(elsewhere.iterdir())


def test_a_damaged_lora_is_found(checkpoint_file: Path, tmp_path: Path, cli: Cli) -> None:
    made = make(checkpoint_file, tmp_path, lora=tmp_path / "lora.safetensors")
    assert cli("evidence", made.output).code == 0
    assert verify_evidence(made.bundle).checked["checkpoint"]
    assert made.manifest.lora
    lora = made.output.with_name(made.manifest.lora.file.name)
    content = bytearray(lora.read_bytes())
    content[-1] ^= 1
    lora.write_bytes(content)
    assert verify_evidence(made.bundle).checked["checkpoint"] is False
    ran = cli("verify", made.bundle)
    assert ran.code == 5
    assert "✗ checkpoint: 2 deviations" in ran.out


def test_a_manifest_from_before_the_evidence_is_no_deviation(made: Made) -> None:
    made.record.write_text(made.manifest.to_json(), encoding="utf-8")
    verified = verify_evidence(made.bundle)
    assert verified.findings == ()
    assert verified.checked["link"] is None


def test_the_manifest_of_another_conversion_beside_it_is_found(made: Made) -> None:
    other = made.manifest.model_copy(update={"synonyms": {"x": ()}}).sealed()
    made.record.write_text(other.to_json(), encoding="utf-8")
    assert findings(made) == {"link: manifest and evidence: manifest_sha256"}


def forge_release(data: dict[str, Any]) -> None:
    data["release"]["responsible"] = "somebody else"


def forge_attacks(data: dict[str, Any]) -> None:
    data["stress"]["attacks"][0]["drawn"] = True


def forge_evaluation(data: dict[str, Any]) -> None:
    data["evaluation"]["seeds"] = 400


def forge_checkpoint(data: dict[str, Any]) -> None:
    data["checkpoint"][0]["sha256"] = "0" * 64


def forge_original(data: dict[str, Any]) -> None:
    data["original"][0]["size"] += 1


def forge_statements(data: dict[str, Any]) -> None:
    del data["release"]["purpose"]


def forge_gaps(data: dict[str, Any]) -> None:
    data["not_stated"] = []


def forge_not_run(data: dict[str, Any]) -> None:
    data["attacks_not_run"].append({"attack": "merge", "description": ""})


def forge_manifest(data: dict[str, Any]) -> None:
    data["manifest_sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (forge_release, "link: manifest and evidence: evidence_sha256"),
        (forge_attacks, "evidence: evidence.json: stress"),
        (forge_evaluation, "evidence: evidence.json: evaluation"),
        (forge_checkpoint, "evidence: evidence.json: checkpoint"),
        (forge_original, "evidence: evidence.json: original"),
        (forge_statements, "evidence: evidence.json: not_stated"),
        (forge_gaps, "evidence: evidence.json: not_stated"),
        (forge_not_run, "evidence: evidence.json: attack merge"),
        (forge_manifest, "evidence: evidence.json: manifest_sha256"),
    ],
)
def test_evidence_that_was_written_anew_is_held_against_the_rest(
    made: Made, change: Change, found: str
) -> None:
    assert found in findings(made, resealed(files_of(made), change))


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("recipe.yaml", b"strength: 1", b"strength: 2", "recipe: recipe.yaml"),
        ("recipe.yaml", b"version: 1", b"version: 9", "recipe: recipe.yaml"),
        ("recipe.yaml", b"version: 1", b"version: \xff", "recipe: recipe.yaml"),
        ("bom.cdx.json", b'"checkpoint"', b'"checkpoint" ,', "bom: bom.cdx.json"),
        ("bom.cdx.json", b'"specVersion": "1.6"', b'"specVersion": "x"', "bom: bom.cdx.json"),
        ("stress.json", b'"prefix"', b'"tricks"', "evidence: evidence.json: stress"),
        ("stress.json", b'"effort"', b'"affort"', "results: stress.json"),
        ("card.md", b"Jane", b"Jack", "bom: bom.cdx.json: card.md"),
    ],
)
def test_files_that_were_written_anew_are_held_against_the_rest(
    made: Made, name: str, old: bytes, new: bytes, found: str
) -> None:
    files = files_of(made)
    assert old in files[name]
    changed = resealed({**files, name: files[name].replace(old, new)})
    assert found in findings(made, changed)


def test_a_recipe_that_is_larger_than_any_is_not_read(made: Made) -> None:
    files = files_of(made)
    large = files["recipe.yaml"] + b"#" * SIZE_LIMIT
    found = findings(made, resealed({**files, "recipe.yaml": large}))
    assert "recipe: recipe.yaml: size" in found


def test_results_of_another_checkpoint_are_found(made: Made) -> None:
    files = files_of(made)
    digest = made.manifest.output.weights_sha256.encode()
    for name in ("evaluation.json", "stress.json"):
        changed = resealed({**files, name: files[name].replace(digest, b"0" * 64)})
        assert f"results: {name}: erased_sha256" in findings(made, changed)


def test_digests_of_a_forged_bill_of_materials_are_found(made: Made) -> None:
    files = files_of(made)
    name = "bom.cdx.json"
    for read, place in ((made.manifest.output, "checkpoint"), (made.manifest.input, "original")):
        file = read.files[0]
        assert file.sha256
        forged = files[name].replace(file.sha256.encode(), b"0" * 64)
        places = findings(made, resealed({**files, name: forged}))
        assert f"bom: {name}: {place}: {file.name}" in places


def test_a_bill_of_materials_that_is_nested_without_end_is_found(made: Made) -> None:
    files = files_of(made)
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    assert "bom: bom.cdx.json" in findings(made, resealed({**files, "bom.cdx.json": deep}))


@pytest.mark.parametrize("name", ["evidence.json", "manifest.json"])
def test_what_is_no_evidence_is_refused(made: Made, cli: Cli, name: str) -> None:
    files = files_of(made)
    for content in (b"", b"{}", b"\xff", b"[" * 100_000):
        made.bundle.write_bytes(pack({**files, name: content}))
        ran = cli("verify", made.bundle)
        assert ran.code == 5
        assert name in ran.err
    del files[name]
    made.bundle.write_bytes(pack(files))
    assert f"it has no {name}" in cli("verify", made.bundle).err


@pytest.mark.parametrize("name", ["..", "", "../../etc/passwd", "a\0b"])
def test_a_hostile_name_of_the_checkpoint_leads_nowhere(made: Made, name: str) -> None:
    output = made.manifest.output.model_copy(update={"name": name})
    manifest = made.manifest.model_copy(update={"output": output}).sealed()
    files = {**files_of(made), "manifest.json": manifest.to_json().encode()}
    made.bundle.write_bytes(pack(resealed(files)))
    assert verify_evidence(made.bundle).checkpoint is None


def test_options_of_checkpoints_and_of_evidence_do_not_mix(made: Made, cli: Cli) -> None:
    for option in (("--base", made.base), ("--tensors-only",), ("--manifest", made.record)):
        assert cli("verify", made.bundle, *option).code == 2
    assert cli("verify", made.output, "--checkpoint", made.output).code == 2
    assert cli("evidence", made.output, "--force", "--certificate", made.base).code == 2


def test_nothing_that_is_read_is_replaced(made: Made, cli: Cli) -> None:
    link = made.output.with_name("link.zip")
    link.symlink_to(made.record)
    before = made.record.read_bytes()
    ran = cli("evidence", made.output, "--force", "--out", link)
    assert ran.code == 2
    assert "which is read" in ran.err
    assert made.record.read_bytes() == before
    for place in (made.output.parent, made.output.with_name("none") / "x.zip"):
        assert cli("evidence", made.output, "--out", place).code == 2


def test_an_edited_manifest_gives_no_evidence(made: Made, cli: Cli) -> None:
    forged = made.manifest.model_copy(update={"recipe_sha256": "0" * 64})
    made.record.write_text(forged.to_json(), encoding="utf-8")
    ran = cli("evidence", made.output, "--force")
    assert ran.code == 5
    assert "no sound evidence can be made: manifest_sha256" in ran.err
    unread = made.manifest.varies_between_runs.model_copy(update={"started": "soon"})
    odd = made.manifest.model_copy(update={"varies_between_runs": unread})
    made.record.write_text(odd.to_json(), encoding="utf-8")
    assert "varies_between_runs.started" in cli("evidence", made.output, "--force").err


def test_a_diffusers_folder_has_evidence_too(tmp_path: Path, cli: Cli, keys: Path) -> None:
    with demo.checkpoint() as base:
        made = make(base, tmp_path, folder=True, sign=keys / "key.pem")
    assert cli("evidence", made.output).code == 2, "its signature covers the manifest"
    assert cli("evidence", made.output, "--sign", keys / "key.pem").code == 0
    verified = verify_evidence(made.bundle, key=keys / "key.pub")
    assert verified.findings == ()
    assert len(verified.evidence.checkpoint) > 5
    assert verified.checked["link"]
    assert cli("verify", made.output, "--key", keys / "key.pub").code == 0


def test_a_signature_covers_all_of_it(made: Made, cli: Cli, keys: Path) -> None:
    ran = cli("verify", made.bundle, "--key", keys / "key.pub")
    assert ran.code == 5
    assert "signature: evidence.sig" in ran.out, "it is not signed"
    assert cli("evidence", made.output, *STATED, "--force", "--sign", keys / "key.pem").code == 0
    assert findings(made, key=keys / "key.pub") == set()
    assert findings(made, key=keys / "other.pub") == {"signature: evidence.sig"}
    assert "give --key PUB" in cli("verify", made.bundle).out
    forged = resealed(files_of(made), forge_release)
    made.record.unlink()
    assert findings(made, forged) == set(), "control: nothing else covers who is responsible"
    assert findings(made, forged, key=keys / "key.pub") == {"signature: evidence.sig"}


def test_the_checkpoints_signature_is_made_anew(
    checkpoint_file: Path, tmp_path: Path, cli: Cli, keys: Path
) -> None:
    made = make(checkpoint_file, tmp_path, sign=keys / "key.pem")
    before = made.record.read_bytes()
    ran = cli("evidence", made.output)
    assert ran.code == 2
    assert "out.sig: signs the manifest" in ran.err
    assert not made.bundle.exists()
    assert made.record.read_bytes() == before
    renamed = made.output.with_name("renamed.safetensors")
    made.output.rename(renamed)
    for ending in ("manifest.json", "sig"):
        made.output.with_name(f"out.{ending}").rename(tmp_path / f"renamed.{ending}")
    ran = cli("evidence", renamed, "--sign", keys / "key.pem")
    assert (ran.code, ran.err) == (0, "")
    assert "is made anew" in ran.out
    assert verify_evidence(tmp_path / "renamed.evidence.zip").checkpoint == renamed
    assert cli("verify", renamed, "--key", keys / "key.pub").code == 0
    assert read_manifest(tmp_path / "renamed.manifest.json").evidence_sha256
