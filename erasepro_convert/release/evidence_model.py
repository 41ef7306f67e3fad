"""The model of ``evidence.json``, and the JSON Schema that follows from it."""

from typing import Literal

from pydantic import JsonValue

from erasepro_convert.manifest import Tool
from erasepro_convert.manifest.fields import Count, Record, Sha256
from erasepro_convert.manifest.ways_back import WayBack
from erasepro_convert.recipe.release import Release
from erasepro_convert.report.results_model import Drawing, Settings
from erasepro_convert.runtime.hashing import json_digest, schema_text


class CheckpointFile(Record):
    """A file of a checkpoint."""

    name: str
    """In a folder: with the folders above it."""
    size: Count
    """Bytes."""
    sha256: Sha256 | None
    """Null for an object in a store of which much was not needed and did not travel."""


class BundleFile(Record):
    """A file of the bundle."""

    size: Count
    """Bytes."""
    sha256: Sha256


class EvaluationRun(Record):
    """What an evaluation looked at; its figures stand in ``evaluation.json``."""

    judges: dict[str, Sha256]
    """The SHA-256 of each judge's weights."""
    missing: tuple[str, ...]
    """A line for each judge that was not there."""
    settings: Settings
    seeds: Count
    """Each prompt was drawn with the seeds 0 to this, less one."""
    prompts: Count
    warnings: tuple[str, ...]


class AttackRun(Record):
    """An attack that was made; its figures stand in ``stress.json``."""

    attack: str
    description: str
    concepts: tuple[str, ...]
    """Targets that were attacked; none where every one was left out."""
    variants: Count
    """In how many ways, over all targets."""
    budget: dict[str, JsonValue]
    """What it could spend, and the random seeds of its trials."""
    drawn: bool
    """Whether pictures were drawn and judged; if not, text features alone were measured."""


class StressRun(Record):
    """What a stress test tried."""

    drawing: Drawing | None
    """Null where no pictures were drawn; their seeds are 0 to ``seeds``, less one."""
    attacks: tuple[AttackRun, ...]
    warnings: tuple[str, ...]
    """Among them targets that were left out."""


class AttackNotRun(Record):
    """An attack that ``stress`` knows and that was not made."""

    attack: str
    description: str


class Evidence(Record):
    """What is known of a release and what is not, who answers for it, and all digests."""

    schema_version: Literal[1] = 1
    tool: Tool
    """What made the evidence; the manifest says what made the checkpoint."""
    manifest_sha256: Sha256
    """The digest that the manifest states of itself; it names this evidence in turn."""
    recipe_sha256: Sha256
    checkpoint: tuple[CheckpointFile, ...]
    original: tuple[CheckpointFile, ...]
    """What the checkpoint was made of."""
    release: Release
    """Who is responsible and why."""
    evaluation: EvaluationRun | None
    stress: StressRun | None
    attacks_not_run: tuple[AttackNotRun, ...]
    known_ways_back: tuple[WayBack, ...]
    not_tested: tuple[str, ...]
    """What nobody looked at, in words."""
    not_stated: tuple[str, ...]
    """What nobody stated, in words; it follows from ``release``."""
    files: dict[str, BundleFile]
    """All other files of the bundle, but for the signature of this one."""
    evidence_sha256: Sha256 = "0" * 64
    """The digest of all but this, as canonical JSON (sorted keys, no white space)."""

    def digest(self) -> str:
        """Return the digest that ``evidence_sha256`` has to be."""
        return json_digest(self.model_dump(mode="json", exclude={"evidence_sha256"}))

    def sealed(self) -> "Evidence":
        """Return this evidence with its digest."""
        return self.model_copy(update={"evidence_sha256": self.digest()})


def schema_json() -> str:
    """Return the JSON Schema of evidence, as shipped in ``evidence.schema.json``."""
    return schema_text(Evidence.model_json_schema(mode="serialization"))
