"""What lies beside a release: its manifest, and what was measured and drawn since.

Files of another checkpoint are refused.  A picture does not say what it was drawn with, so that
the one beside the output is taken for its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.manifest.fields import first_mistake
from erasepro_convert.manifest.names_beside import EVALUATION, MANIFEST, PICTURES, REPORT, STRESS
from erasepro_convert.recipe.release import Release, with_statements
from erasepro_convert.report.results_model import Evaluation, Stress
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.storage.location import sibling
from erasepro_convert.verification.against_manifest import verify_files


@dataclass(frozen=True)
class Results:
    """An output with what is known of it; None stands for what is not there."""

    output: Path
    manifest: Manifest
    manifest_file: Path
    evaluation: Evaluation | None
    stress: Stress | None
    pictures: Path | None
    report: Path | None

    @property
    def name(self) -> str:
        """The output's name, also of the folder that one is in."""
        return self.output.name or self.output.resolve().name

    def stated(self, statements: Iterable[str] = ()) -> Release:
        """Return what the recipe states of the release, with what these texts add to it."""
        return with_statements(self.manifest.recipe.release, statements)

    @property
    def evaluation_file(self) -> Path:
        """Where the evaluation lies, if there is one."""
        return sibling(self.output, EVALUATION)

    @property
    def stress_file(self) -> Path:
        """Where the stress test lies, if there is one."""
        return sibling(self.output, STRESS)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that there are, the output first."""
        beside = (self.evaluation_file, self.stress_file)
        found = (*(path for path in beside if path.exists()), self.pictures, self.report)
        return (self.output, self.manifest_file, *filter(None, found))


def read_results(place: Path) -> Results:
    """Read what lies beside an output: a checkpoint, an output folder, or the manifest of one.

    Raises UsageError where there is no manifest of a written output, for a file that is not what
    its name says, and for results of another checkpoint; OSError passes through.
    """
    manifest_file, output = manifest_and_output(place)
    manifest = read_manifest(manifest_file)
    if not manifest.output.written:
        raise UsageError(f"{manifest_file}: is of a dry run, which wrote nothing")
    pictures = sibling(output, PICTURES)
    return Results(
        output,
        manifest,
        manifest_file,
        read_evaluation(output, manifest),
        read_stress(output, manifest),
        pictures if pictures.exists() else None,
        _report(output, manifest),
    )


def manifest_and_output(place: Path) -> tuple[Path, Path]:
    """Return where the manifest and the output lie, of which ``place`` is one.

    Raises UsageError where one is not there.
    """
    if not place.exists():
        raise UsageError(f"{place}: there is no such file")
    if place.suffix == ".json" and place.is_file():
        return place, _output_of(place)
    manifest_file = manifest_path(place, folder=place.is_dir())
    if not manifest_file.exists():
        raise UsageError(f"{place}: its manifest, {manifest_file}, is not there")
    return manifest_file, place


def _output_of(manifest_file: Path) -> Path:
    """Return the checkpoint beside a manifest, or the output folder that it is inside of."""
    if manifest_file.name == "manifest.json":
        return manifest_file.resolve().parent
    name = manifest_file.name.removesuffix(MANIFEST)
    return manifest_file.with_name(f"{name}.safetensors")


def read_evaluation(output: Path, manifest: Manifest) -> Evaluation | None:
    """Return what ``evaluate`` wrote beside an output; None where there is nothing.

    Raises UsageError for another file and for the evaluation of another checkpoint.
    """
    return _read(sibling(output, EVALUATION), Evaluation, "evaluate", manifest)


def read_stress(output: Path, manifest: Manifest) -> Stress | None:
    """Return what ``stress`` wrote beside an output; None where there is nothing.

    Raises UsageError for another file and for the stress test of another checkpoint.
    """
    return _read(sibling(output, STRESS), Stress, "stress", manifest)


Kind = TypeVar("Kind", Evaluation, Stress)


def _read(path: Path, kind: type[Kind], command: str, manifest: Manifest) -> Kind | None:
    if not path.exists():
        return None
    try:
        found = kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path}: not what {command} writes: {first_mistake(error)}") from error
    if found.erased_sha256 != manifest.output.weights_sha256:
        raise UsageError(
            f"{path}: is of another checkpoint; remove it, or run {command} anew with --force"
        )
    if not manifest.input.is_named(found.original_sha256):
        raise UsageError(
            f"{path}: compares with another original than {manifest.input.name}, which the "
            f"manifest names; run {command} anew with --force"
        )
    targets = {concept.target for concept in manifest.recipe.concepts}
    if others := sorted({concept for concept in found.targets if concept not in targets}):
        raise UsageError(
            f"{path}: is about {quoted(others[0])}, which was not erased here; run {command} with "
            "the recipe of this file"
        )
    return found


def _report(output: Path, manifest: Manifest) -> Path | None:
    """Return the report beside an output; None where there is none of this manifest."""
    path = sibling(output, REPORT)
    is_ours = path.exists() and manifest.manifest_sha256.encode() in path.read_bytes()
    return path if is_ours else None


def require_unchanged(results: Results) -> None:
    """Read all of the output's files, and raise VerificationError where one deviates."""
    for finding in verify_files(results.manifest, results.output):
        raise VerificationError(
            f"{results.output}: is not what its manifest says: {finding.place}: expected "
            f"{finding.expected}, found {finding.found}"
        )
