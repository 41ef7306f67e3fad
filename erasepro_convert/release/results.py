"""What lies beside a release: its manifest, and what was measured and drawn since.

``evaluate`` and ``stress`` write JSON; here is what of it a release's documents say.  Files of
another checkpoint are refused.  A picture does not say what it was drawn with, so that the one
beside the output is taken for its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from erasepro_convert.errors import UsageError, VerificationError
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.manifest.fields import first_mistake
from erasepro_convert.storage.location import sibling
from erasepro_convert.verification.against_manifest import verify_files

EVALUATION = ".evaluation.json"
STRESS = ".stress.json"
PICTURES = ".before-after.png"
REPORT = ".html"
"""What the names of files beside an output end in: see ``sibling``."""


class Said(BaseModel):
    """A part of a file of ours; what later versions add to it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Interval(Said):
    """Where a figure lies in 95 of 100 samples."""

    low: float
    high: float


class Estimate(Said):
    """A figure, with its interval where it has one."""

    value: float
    interval: Interval | None


class Settings(Said):
    """How pictures were drawn."""

    steps: int
    guidance: float
    size: int
    sampler: str


class Measured(Said):
    """What an evaluation and a stress test both say."""

    tool: str
    original_sha256: str
    erased_sha256: str
    warnings: tuple[str, ...]


class Prompt(Said):
    """A prompt that was drawn, and what it was to show."""

    concept: str
    role: str


class Figure(Said):
    """A metric of both models; ``concept`` is None where it covers all of them."""

    judge: str
    concept: str | None
    column: str
    better: str
    original: Estimate | None
    erased: Estimate
    difference: Estimate | None
    images: int
    prompts: int
    worst: str | None
    worst_value: float | None


class Evaluation(Measured):
    """What ``evaluate`` found."""

    settings: Settings
    seeds: int
    judges: Mapping[str, str]
    missing: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    figures: tuple[Figure, ...]


class Distances(Said):
    """How near text features came to the target's: 0 is there, 1 as far as the anchor."""

    erased: float
    original: float | None
    control: float | None


class DrawnRates(Said):
    """In what share of the pictures ``wanted`` is seen."""

    wanted: str
    original: Estimate | None
    erased: Estimate
    recovered: Estimate | None
    control: Estimate | None
    images: int
    prompts: int


class StressRow(Said):
    """One attack on one concept; "none" is the file without an attack."""

    concept: str
    attack: str
    how: str
    distances: Distances | None
    drawn: DrawnRates | None


class Effort(Said):
    """How hard attacks tried: steps of a training, trials, words of a search."""

    steps: int
    seeds: int
    candidates: int


class Drawing(Said):
    """How attacks were drawn and judged."""

    judge: str
    judge_sha256: str
    settings: Settings
    seeds: int


class Stress(Measured):
    """What ``stress`` found; ``drawing`` is None where it drew nothing."""

    effort: Effort
    budgets: Mapping[str, Mapping[str, JsonValue]]
    """What each attack that was made could spend, trial seeds among it."""
    drawing: Drawing | None
    rows: tuple[StressRow, ...]


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

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that there are, the output first."""
        beside = (sibling(self.output, ending) for ending in (EVALUATION, STRESS))
        found = (*(path for path in beside if path.exists()), self.pictures, self.report)
        return (self.output, self.manifest_file, *filter(None, found))


def read_results(place: Path) -> Results:
    """Read what lies beside an output: a checkpoint, an output folder, or the manifest of one.

    Raises UsageError where there is no manifest of a written output, for a file that is not what
    its name says, and for results of another checkpoint; OSError passes through.
    """
    if not place.exists():
        raise UsageError(f"{place}: there is no such file")
    is_manifest = place.suffix == ".json" and place.is_file()
    manifest_file = place if is_manifest else manifest_path(place, folder=place.is_dir())
    if not manifest_file.exists():
        raise UsageError(f"{place}: its manifest, {manifest_file}, is not there")
    manifest = read_manifest(manifest_file)
    if not manifest.output.written:
        raise UsageError(f"{manifest_file}: is of a dry run, which wrote nothing")
    output = output_of(manifest_file) if is_manifest else place
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


def output_of(manifest_file: Path) -> Path:
    """Return the checkpoint beside a manifest, or the output folder that it is inside of."""
    if manifest_file.name == "manifest.json":
        return manifest_file.resolve().parent
    name = manifest_file.name.removesuffix(".manifest.json")
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


Kind = TypeVar("Kind", bound=Measured)


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
