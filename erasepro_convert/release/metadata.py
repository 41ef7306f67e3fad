"""A model card's metadata, which Hugging Face filters and shows models by.

Its specification is huggingface/hub-docs, modelcard.md.  ``model-index`` holds figures of pictures
alone: what an evaluation measured, and what came back under attack.
"""

import re
from collections.abc import Iterator

from huggingface_hub import EvalResult, ModelCardData

from erasepro_convert.recipe.release import Release
from erasepro_convert.release.licenses import hub_license
from erasepro_convert.release.results import Results
from erasepro_convert.release.sentences import attack_name, title
from erasepro_convert.release.words import Words
from erasepro_convert.report.results_model import Evaluation, Settings, Stress
from erasepro_convert.runtime.printable import on_one_line

TASK = "text-to-image"
TAGS = ("stable-diffusion", "concept-erasure", "erasepro-convert")
RELATION = "finetune"
"""Of adapter, merge, quantized and finetune: all weights are there, of one base, some changed."""


def card_data(results: Results, release: Release, words: Words) -> ModelCardData:
    """Return the metadata; what nobody stated or measured is absent."""
    stated = hub_license(release.license) if release.license else None
    found = [
        *(_evaluated(results.evaluation, words) if results.evaluation else ()),
        *(_stressed(results.stress, words) if results.stress else ()),
    ]
    return ModelCardData(
        license=stated.identifier if stated else None,
        license_name=stated.name if stated else None,
        license_link=stated.link if stated else None,
        base_model=release.base_model,
        base_model_relation=RELATION if release.base_model else None,
        library_name="diffusers",
        pipeline_tag=TASK,
        tags=[*TAGS, results.manifest.variant.name, *map(on_one_line, release.tags)],
        model_name=on_one_line(title(results, release)) if found else None,
        eval_results=found or None,
    )


def _evaluated(evaluation: Evaluation, words: Words) -> Iterator[EvalResult]:
    for figure in evaluation.figures:
        concept = f", {words.concept(figure.concept)}" if figure.concept else ""
        yield EvalResult(
            task_type=TASK,
            dataset_type="erasepro-convert-evaluation",
            dataset_name="Prompts of the evaluation",
            dataset_args=_drawn_with(evaluation.settings, evaluation.seeds),
            metric_type=_slug(figure.column),
            metric_name=on_one_line(f"{figure.judge}{concept}, {figure.column}"),
            metric_value=figure.erased.value,
        )


def _stressed(stress: Stress, words: Words) -> Iterator[EvalResult]:
    for row in stress.rows:
        if not (stress.drawing and row.drawn and row.drawn.recovered):
            continue
        yield EvalResult(
            task_type=TASK,
            dataset_type="erasepro-convert-stress",
            dataset_name="Prompts under attack",
            dataset_args=_drawn_with(stress.drawing.settings, stress.drawing.seeds),
            metric_type="recovered",
            metric_name=on_one_line(f"recovered, {words.concept(row.concept)}, {attack_name(row)}"),
            metric_value=row.drawn.recovered.value,
        )


def _drawn_with(settings: Settings, seeds: int) -> dict[str, float | str]:
    return {"seeds": seeds, **settings.model_dump()}


def _slug(column: str) -> str:
    """Return a metric's name as an identifier: "T: target seen" is "t-target-seen"."""
    return re.sub(r"[^a-z0-9]+", "-", column.lower()).strip("-")
