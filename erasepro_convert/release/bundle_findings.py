"""What does not hold in a bundle of evidence: of its files, and between them."""

from collections.abc import Iterator

from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.manifest import Manifest
from erasepro_convert.manifest.fields import first_mistake
from erasepro_convert.recipe import recipe_from_yaml
from erasepro_convert.recipe.yaml_document import SIZE_LIMIT
from erasepro_convert.release.bom import REFERENCES, schema_error, stated_digests
from erasepro_convert.release.bundle import (
    BILL,
    EVALUATION,
    EVIDENCE,
    RECIPE,
    SIGNATURE,
    STRESS,
    Files,
)
from erasepro_convert.release.evidence_model import Evidence
from erasepro_convert.release.summaries import (
    bundle_file,
    checkpoint_files,
    evaluation_run,
    not_stated,
    original_files,
    stress_run,
)
from erasepro_convert.report.results_model import Evaluation, Measured, Stress
from erasepro_convert.verification import Finding
from erasepro_convert.verification.against_manifest import verify_manifest


def verify_bundle_files(files: Files, evidence: Evidence, manifest: Manifest) -> Iterator[Finding]:
    """Check the files of a bundle against the evidence, and against each other."""
    yield from _digests(files, evidence)
    yield from verify_manifest(manifest)
    pairs = {
        "evidence_sha256": (evidence.digest(), evidence.evidence_sha256),
        "manifest_sha256": (manifest.manifest_sha256, evidence.manifest_sha256),
        "recipe_sha256": (manifest.recipe_sha256, evidence.recipe_sha256),
        "checkpoint": (checkpoint_files(manifest), evidence.checkpoint),
        "original": (original_files(manifest), evidence.original),
        "not_stated": (not_stated(evidence.release), evidence.not_stated),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            yield Finding("evidence", EVIDENCE, str(expected), str(found), name)
    if files[EVIDENCE] != evidence.to_json().encode():
        yield Finding("evidence", EVIDENCE, "its own spelling of JSON", "another")
    run = {made.attack for made in evidence.stress.attacks} if evidence.stress else set()
    for attack in (other.attack for other in evidence.attacks_not_run):
        if attack in run:
            yield Finding("evidence", EVIDENCE, "made or not", "both", f"attack {attack}")
    yield from _recipe(files, manifest)
    yield from _bill_of_materials(files, manifest)
    yield from _results(files, evidence, manifest)


def _digests(files: Files, evidence: Evidence) -> Iterator[Finding]:
    """Check the size and the digest of each file, and list files that the evidence lacks."""
    for name, stated in evidence.files.items():
        if name not in files:
            yield Finding("bundle", name, "there", "missing")
            continue
        found = bundle_file(files[name])
        if found.size != stated.size:
            yield Finding("bundle", name, str(stated.size), str(found.size), "size")
        if found.sha256 != stated.sha256:
            yield Finding("bundle", name, stated.sha256, found.sha256, "SHA-256")
    for name in sorted(files.keys() - evidence.files.keys() - {EVIDENCE, SIGNATURE}):
        yield Finding("bundle", name, "not there", "there")


def _recipe(files: Files, manifest: Manifest) -> Iterator[Finding]:
    if RECIPE not in files:
        yield Finding("recipe", RECIPE, "there", "missing")
        return
    if len(files[RECIPE]) > SIZE_LIMIT:
        sizes = f"at most {SIZE_LIMIT}", str(len(files[RECIPE]))
        yield Finding("recipe", RECIPE, *sizes, "size")
        return
    try:
        found = recipe_from_yaml(files[RECIPE].decode()).digest
    except (RecipeError, UnicodeDecodeError) as error:
        found = str(error)
    if found != manifest.recipe_sha256:
        yield Finding("recipe", RECIPE, manifest.recipe_sha256, found)


def _bill_of_materials(files: Files, manifest: Manifest) -> Iterator[Finding]:
    name = BILL
    if name not in files:
        yield Finding("bom", name, "there", "missing")
        return
    try:
        error = schema_error(files[name].decode())
    except (ValueError, RecursionError) as mistake:  # of UTF-8, of JSON, or nested too deeply
        error = str(mistake)
    if error:
        yield Finding("bom", name, "CycloneDX 1.6", error)
        return
    roles = {"checkpoint": checkpoint_files(manifest), "original": original_files(manifest)}
    expected = {
        f"{role}: {file.name}": file.sha256
        for role, of_model in roles.items()
        for file in of_model
        if file.sha256
    }
    for part in REFERENCES.keys() & files.keys():
        expected[part] = bundle_file(files[part]).sha256
    found = stated_digests(files[name])
    for part in sorted({*expected, *found}):
        if expected.get(part) != found.get(part):
            sides = expected.get(part, "none"), found.get(part, "none")
            yield Finding("bom", name, *sides, part)


def _results(files: Files, evidence: Evidence, manifest: Manifest) -> Iterator[Finding]:
    """Check that evaluation and stress test are of this checkpoint, and are summed up rightly."""
    evaluation = stress = None
    try:
        if EVALUATION in files:
            evaluation = Evaluation.model_validate_json(files[EVALUATION])
        if STRESS in files:
            stress = Stress.model_validate_json(files[STRESS])
    except ValidationError as error:
        kind = EVALUATION if error.title == "Evaluation" else STRESS
        yield Finding("results", kind, "what this program writes", first_mistake(error))
        return
    measured: dict[str, Measured | None] = {EVALUATION: evaluation, STRESS: stress}
    for name, part in measured.items():
        if part and part.erased_sha256 != manifest.output.weights_sha256:
            expected, found = manifest.output.weights_sha256, part.erased_sha256
            yield Finding("results", name, expected, found, "erased_sha256")
    if evidence.evaluation != (evaluation_run(evaluation) if evaluation else None):
        yield Finding("evidence", EVIDENCE, "what evaluation.json says", "another", "evaluation")
    if evidence.stress != (stress_run(stress) if stress else None):
        yield Finding("evidence", EVIDENCE, "what stress.json says", "another", "stress")
