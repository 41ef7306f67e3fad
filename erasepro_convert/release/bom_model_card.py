"""The model card in a bill of materials: CycloneDX's own form of one, of figures above all."""

from collections.abc import Iterator
from typing import Any

from erasepro_convert.manifest import Manifest
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.recipe.release import Release
from erasepro_convert.report.results_model import Evaluation, Interval, Stress


def model_card(
    manifest: Manifest, release: Release, evaluation: Evaluation | None, stress: Stress | None
) -> dict[str, Any]:
    """Return the model card of a release as the standard has it, without what nobody knows."""
    metrics = [*_probed(manifest), *_evaluated(evaluation), *_attacked(stress)]
    why = [text for text in (release.purpose, release.reference) if text]
    return {
        "modelParameters": {
            "task": "text-to-image",
            "architectureFamily": "Stable Diffusion 1.x",
            "modelArchitecture": manifest.variant.name,
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "image"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": {
            "technicalLimitations": [f"{way.name}: {way.description}" for way in WAYS_BACK],
            "ethicalConsiderations": [
                {
                    "name": f"{concept.target} was erased",
                    "mitigationStrategy": f"prompts for it give {concept.anchor or 'no words'}"
                    + "".join(f"; {text}" for text in why),
                }
                for concept in manifest.recipe.concepts
            ],
        },
    }


def _probed(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Give leak and drift, which every manifest has; of a kept EMA copy too."""
    for part, probe in zip(("", "; EMA copy of the U-Net"), manifest.probes, strict=False):
        for name, measures in (("leak", probe.leak), ("drift", probe.drift)):
            for m in measures:
                feed = f"{m.feed.text_encoder} text encoder, clip skip {m.feed.clip_skip}"
                of = f"{m.concept or 'other prompts'}; {feed}{part}"
                yield _metric(f"{name} on text features", of, m.mean)


def _evaluated(evaluation: Evaluation | None) -> Iterator[dict[str, Any]]:
    """Give what each judge saw, of this checkpoint and of its original."""
    for figure in evaluation.figures if evaluation else ():
        for model, estimate in (("erased", figure.erased), ("original", figure.original)):
            if estimate:
                of = f"{figure.concept}; {model}" if figure.concept else model
                yield _metric(
                    f"{figure.judge}: {figure.column}", of, estimate.value, estimate.interval
                )


def _attacked(stress: Stress | None) -> Iterator[dict[str, Any]]:
    """Give how much came back under each attack, on text features and in pictures."""
    for row in stress.rows if stress else ():
        of = "; ".join(part for part in (row.concept, row.attack, row.how) if part)
        if row.distances:
            yield _metric("distance under attack", of, row.distances.erased)
        if row.drawn and (recovered := row.drawn.recovered):
            yield _metric("recovered under attack", of, recovered.value, recovered.interval)


def _metric(kind: str, of: str, value: float, interval: Interval | None = None) -> dict[str, Any]:
    metric: dict[str, Any] = {"type": kind, "slice": of, "value": f"{value:.6g}"}
    if interval:
        low, high = f"{interval.low:.6g}", f"{interval.high:.6g}"
        metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
    return metric
