"""What evidence says of files and of results: digests, and what was looked at with which seeds."""

import hashlib

from erasepro_convert.attacks.names import DESCRIPTIONS
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe.release import Release
from erasepro_convert.release.evidence_model import (
    AttackRun,
    BundleFile,
    CheckpointFile,
    EvaluationRun,
    StressRun,
)
from erasepro_convert.report.results_model import Evaluation, Stress

UNSTATED = {
    "responsible": "Nobody is named as responsible for the release.",
    "purpose": "Why the targets were erased is not stated.",
    "reference": "No request, law or policy is named that asked for it.",
    "contact": "No contact for questions and complaints is given.",
    "license": "No licence is stated.",
    "review": "No day is set on which the release is looked at again.",
}
"""What evidence says of a statement that the release lacks."""


def bundle_file(content: bytes) -> BundleFile:
    """Return the size and the digest of a file."""
    return BundleFile(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def checkpoint_files(manifest: Manifest) -> tuple[CheckpointFile, ...]:
    """Return the files that a manifest says were written."""
    return tuple(
        CheckpointFile(name=file.name, size=file.size, sha256=file.sha256)
        for file in manifest.output.files
    )


def original_files(manifest: Manifest) -> tuple[CheckpointFile, ...]:
    """Return the files that a manifest says were read."""
    return tuple(
        CheckpointFile(name=file.name, size=file.size, sha256=file.sha256)
        for file in manifest.input.files
    )


def not_stated(release: Release) -> tuple[str, ...]:
    """Return a sentence for each statement that a release lacks."""
    stated = release.model_dump(exclude_none=True)
    return tuple(words for key, words in UNSTATED.items() if key not in stated)


def evaluation_run(evaluation: Evaluation) -> EvaluationRun:
    """Say what an evaluation looked at."""
    return EvaluationRun(
        judges=dict(evaluation.judges),
        missing=evaluation.missing,
        settings=evaluation.settings,
        seeds=evaluation.seeds,
        prompts=len(evaluation.prompts),
        warnings=evaluation.warnings,
    )


def stress_run(stress: Stress) -> StressRun:
    """Say which attacks a stress test made, with what budget and seeds."""
    attacks = []
    known: dict[str, str] = {str(name): text for name, text in DESCRIPTIONS.items()}
    for name in stress.attacks:
        rows = [row for row in stress.rows if row.attack == name]
        attacks.append(
            AttackRun(
                attack=name,
                description=known.get(name, ""),  # a later version may know more
                concepts=tuple(dict.fromkeys(row.concept for row in rows)),
                variants=len(rows),
                budget=dict(stress.budgets.get(name, {})),
                drawn=any(row.drawn for row in rows),
            )
        )
    return StressRun(
        drawing=stress.drawing,
        attacks=tuple(attacks),
        warnings=stress.warnings,
    )
