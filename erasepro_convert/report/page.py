"""The report: one page with everything in it, and nothing from anywhere else."""

from dataclasses import dataclass
from itertools import groupby

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from erasepro_convert.manifest import Manifest
from erasepro_convert.report.charts import svg


def html(manifest: Manifest) -> str:
    """The page; prompts and names are escaped, and the same manifest gives the same page."""
    environment = Environment(
        loader=PackageLoader("erasepro_convert.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    recipe = yaml.safe_dump(manifest.recipe.model_dump(mode="json"), sort_keys=False, width=90)
    return environment.get_template("page.html.jinja").render(
        m=manifest,
        charts=Markup(svg(manifest)),  # noqa: S704  # matplotlib has escaped it
        layers=_layers(manifest),
        recipe=recipe,
    )


@dataclass(frozen=True)
class _Layer:
    """The matrices of one layer taken together: what is largest."""

    name: str
    relative_update: float
    residual_before: float
    residual_after: float


def _layers(manifest: Manifest) -> list[_Layer]:
    return [
        _Layer(
            name,
            max(e.relative_update for e in edits),
            max(e.residual_before.relative for e in edits),
            max(e.residual_after.relative for e in edits),
        )
        for name, group in groupby(manifest.edits, lambda edit: edit.layer)
        if (edits := list(group))
    ]
