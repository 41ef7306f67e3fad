"""Make the evidence of a release: what was done, what is known of it, and what is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.manifest import Tool
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.bom import bill_of_materials
from erasepro_convert.release.bundle import (
    BILL,
    CARD,
    EVALUATION,
    EVIDENCE,
    MANIFEST,
    PICTURES,
    README,
    RECIPE,
    REPORT,
    STRESS,
    Files,
)
from erasepro_convert.release.card import model_card
from erasepro_convert.release.evidence_model import AttackNotRun, Evidence
from erasepro_convert.release.readme import readme
from erasepro_convert.release.report_page import report_page
from erasepro_convert.release.results import Results
from erasepro_convert.release.sentences import attacks_not_tried
from erasepro_convert.release.summaries import (
    bundle_file,
    checkpoint_files,
    evaluation_run,
    not_stated,
    original_files,
    stress_run,
)
from erasepro_convert.release.untested import untested
from erasepro_convert.release.words import Words
from erasepro_convert.runtime.software_versions import library_versions
from erasepro_convert.runtime.version import __version__

LIBRARIES = ("cyclonedx-python-lib", "huggingface_hub", "matplotlib", "pydantic")
"""What the bytes of a bundle depend on."""


def make_evidence(results: Results, release: Release) -> tuple[Evidence, Files]:
    """Return the evidence of a release and all files of its bundle; it depends on these alone.

    Raises UsageError where the manifest does not say when the conversion started; OSError passes
    through.
    """
    manifest = results.manifest.model_copy(update={"evidence_sha256": None})
    files = {
        MANIFEST: manifest.to_json().encode(),
        RECIPE: manifest.recipe.to_yaml().encode(),
        CARD: model_card(_named_as_here(results), release).encode(),
    }
    if results.evaluation:
        files[EVALUATION] = results.evaluation_file.read_bytes()
    if results.stress:
        files[STRESS] = results.stress_file.read_bytes()
    if results.pictures:
        files[PICTURES] = results.pictures.read_bytes()
    files[REPORT] = report_page(manifest, results.pictures, results.evaluation)
    files[README] = readme(manifest.output.name, files).encode()
    files[BILL] = bill_of_materials(
        manifest, release, results.evaluation, results.stress, files
    ).encode()
    evidence = Evidence(
        tool=Tool(version=__version__, libraries=library_versions(LIBRARIES)),
        manifest_sha256=manifest.manifest_sha256,
        recipe_sha256=manifest.recipe_sha256,
        checkpoint=checkpoint_files(manifest),
        original=original_files(manifest),
        release=release,
        evaluation=evaluation_run(results.evaluation) if results.evaluation else None,
        stress=stress_run(results.stress) if results.stress else None,
        attacks_not_run=tuple(
            AttackNotRun(attack=attack, description=DESCRIPTIONS[attack])
            for attack in attacks_not_tried(results.stress)
        ),
        known_ways_back=WAYS_BACK,
        not_tested=tuple(_not_tested(results)),
        not_stated=not_stated(release),
        files={name: bundle_file(content) for name, content in files.items()},
    ).sealed()
    return evidence, files | {EVIDENCE: evidence.to_json().encode()}


def _named_as_here(results: Results) -> Results:
    """Return results whose files have the names of the bundle, which its card leads to."""
    return replace(
        results,
        manifest_file=Path(MANIFEST),
        report=Path(REPORT),
        pictures=results.pictures and Path(PICTURES),
    )


def _not_tested(results: Results) -> Iterator[str]:
    yield from untested(results, Words(results.manifest))
    if not results.pictures:
        yield "No pictures of before and after were drawn."
