"""A release for tests of evidence, with hostile words in what is said of it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.manifest import Manifest
from erasepro_convert.recipe import load_recipe
from tests.conftest import PLAIN, SHORT
from tests.release.measured import measure

RELEASE = """
release:
  license: creativeml-openrail-m
  base_model: somebody/mini
  responsible: Jane <script>alert(1)</script> Doe
  contact: jane@example.org
  purpose: "the painter's heirs ask for it"
"""


@dataclass(frozen=True)
class Made:
    """A base, what was made of it, and its manifest."""

    base: Path
    output: Path
    manifest: Manifest

    @property
    def bundle(self) -> Path:
        return self.output.with_name("out.evidence.zip")

    @property
    def record(self) -> Path:
        return self.output.with_name("out.manifest.json")

    def moved_to(self, folder: Path) -> "Made":
        """A copy of all of it that a test may change."""
        shutil.copytree(self.output.parent, folder, dirs_exist_ok=True)
        return Made(self.base, folder / self.output.name, self.manifest)


def make(base: Path, place: Path, **options: Any) -> Made:
    """Convert a checkpoint, with a release section."""
    recipe = place / "recipe.yaml"
    recipe.write_text(SHORT + PLAIN + RELEASE, encoding="utf-8")
    output = place / ("out" if options.get("folder") else "out.safetensors")
    return Made(base, output, convert(load_recipe(recipe), base, output, Options(**options)))


def add_results(made: Made) -> None:
    """Put results beside the output, with an attack that was drawn and one that was not."""
    measure(made.output)
    path = made.output.with_name("out.stress.json")
    data = json.loads(path.read_bytes())
    prefix = {**data["rows"][0], "attack": "prefix", "how": "“<b> …”", "drawn": None}
    data["rows"].insert(1, prefix)
    data["attacks"] = ["prefix", "merge"]
    data["budgets"] = {"prefix": {"words_at_most": 1000}, "merge": {"shares": [0.5]}}
    path.write_text(json.dumps(data), encoding="utf-8")
