"""The report: one page of HTML that holds everything and loads nothing."""

import shlex
from base64 import b64encode
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from erasepro_convert.manifest import Manifest, PromptMeasure, edited_layers
from erasepro_convert.manifest.measures import exceeds
from erasepro_convert.manifest.remarks import remarks
from erasepro_convert.manifest.verdict import MEASURED, verdict
from erasepro_convert.manifest.ways_back import WAYS_BACK
from erasepro_convert.report.charts import svg
from erasepro_convert.report.results_model import Evaluation
from erasepro_convert.runtime.figures import format_estimate
from erasepro_convert.runtime.html_template import fill_template
from erasepro_convert.runtime.wording import counted


def html(
    manifest: Manifest,
    pictures: bytes | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """Return the page, with prompts and names escaped; it depends on its arguments alone.

    ``pictures`` is a PNG of pictures before and after erasure; ``evaluation`` is what ``evaluate``
    found.
    """
    return fill_template(
        "report/page.html.jinja",
        m=manifest,
        counted=counted,
        quoted=shlex.quote,
        charts=Markup(svg(manifest)),  # noqa: S704  # matplotlib has escaped it
        verdict=verdict(manifest),
        measured=MEASURED,
        exceeds=exceeds,
        layers=edited_layers(manifest.edits),
        remarks=[remark for remark in remarks(manifest) if remark.more or not remark.is_warning],
        prompts=_prompts(manifest),
        evaluation=evaluation,
        value=partial(format_estimate, places=3, ends=" [{}, {}]"),
        pictures=b64encode(pictures).decode() if pictures else None,
        ways_back=WAYS_BACK,
        recipe=manifest.recipe.to_yaml(),
    )


@dataclass(frozen=True)
class _Prompts:
    """The table of one concept's held-out prompts, or of the other prompts.

    It has a row for each prompt and a column for each way of feeding the U-Net.
    """

    heading: str
    feeds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


def _prompts(manifest: Manifest) -> list[_Prompts]:
    by_concept: dict[str | None, list[PromptMeasure]] = {}
    for measure in (*manifest.probe.leak, *manifest.probe.drift):
        by_concept.setdefault(measure.concept, []).append(measure)
    return [
        _Prompts(
            f"leak of {concept}" if concept else "drift of others",
            tuple(f"{m.feed.text_encoder}, clip skip {m.feed.clip_skip}" for m in measures),
            tuple(
                (prompt, tuple(m.by_prompt[prompt] for m in measures))
                for prompt in measures[0].by_prompt
            ),
        )
        for concept, measures in by_concept.items()
    ]
