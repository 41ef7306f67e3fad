"""What ``evaluate``, ``stress`` and ``preview`` put beside an output, without drawing anything."""

import json
from pathlib import Path

from erasepro_convert.attacks.case import Distances, Effort
from erasepro_convert.attacks.gallery import Drawing, DrawnRates
from erasepro_convert.attacks.run import AttackedPrompts, StressResult, StressRow
from erasepro_convert.evaluate.image_store import Settings
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.results import Estimate, Metric
from erasepro_convert.evaluate.run import DrawnPictures, Evaluation
from erasepro_convert.manifest import read_manifest

SETTINGS = Settings(20, 4.0, 64, "dpm++")
RATE = Estimate(0.125, Interval(0.0625, 0.25))


def digests(output: Path) -> tuple[str, str]:
    """What names the original and the output."""
    manifest = read_manifest(output.with_suffix(".manifest.json"))
    return str(manifest.input.files[0].sha256), manifest.output.weights_sha256


def evaluation(output: Path) -> Evaluation:
    """An evaluation as ``evaluate`` makes one."""
    original_sha256, erased_sha256 = digests(output)
    prompts = (
        EvalPrompt("Van Gogh", "artist", "target", "Van Gogh", "1"),
        EvalPrompt("Van Gogh", "artist", "implied", "The Starry Night", "2"),
        EvalPrompt("a fish", "", "other", "a fish", "3"),
    )
    shown = Metric(
        "demo judge", "Van Gogh", "T: target seen", "lower", Estimate(1.0), RATE, Estimate(-0.875),
        20, 10, "Van Gogh", 0.5,
    )  # fmt: skip
    distance = Metric(
        "KID and FID on demo features",
        None,
        "KID O",
        "lower",
        None,
        Estimate(-0.0001),
        None,
        20,
        10,
    )
    return Evaluation(
        tool="0.1.0",
        recipe_sha256="0" * 64,
        original_sha256=original_sha256,
        erased_sha256=erased_sha256,
        settings=SETTINGS,
        seeds=2,
        judges={"demo judge": "2" * 64, "KID and FID on demo features": "2" * 64},
        missing=("CLIP score A: —; give --clip FOLDER",),
        metrics=(shown, distance),
        warnings=("20 images: few",),
        pictures=DrawnPictures(prompts, (("Van Gogh", "artist"),), {}, 2, 4.0),
    )


def stress(output: Path, *, drawn: bool) -> StressResult:
    """A stress test as ``stress`` makes one."""
    original_sha256, erased_sha256 = digests(output)
    distances = Distances(0.75, 0.0, None)
    rates = DrawnRates("Van Gogh", RATE, RATE, Estimate(0.5), None, 10, 5, "Van Gogh", 1.0)
    rows = (
        StressRow("Van Gogh", "none", "", distances, rates if drawn else None),
        StressRow("Van Gogh", "merge", "1/2 erased", distances, rates if drawn else None),
    )
    return StressResult(
        tool="0.1.0",
        libraries={"python": "3.11.0"},
        recipe="van-gogh",
        recipe_sha256="0" * 64,
        original_sha256=original_sha256,
        erased_sha256=erased_sha256,
        concepts={"Van Gogh": "artist"},
        prompts={"Van Gogh": AttackedPrompts(("art by Van Gogh",), ())},
        attacks=("merge",),
        not_run=("rece",),
        budgets={"merge": {}},
        text_encoders={},
        effort=Effort(100, 5, 1000),
        drawing=Drawing("demo judge", "2" * 64, SETTINGS, 2) if drawn else None,
        rows=rows,
        warnings=("Van Gogh was left out: no prompt names it.",),
    )


def measure(output: Path, *, drawn: bool = True) -> None:
    """Put an evaluation, a stress test and pictures beside an output."""
    for ending, data in (
        (".evaluation.json", evaluation(output).to_data()),
        (".stress.json", stress(output, drawn=drawn).to_data()),
    ):
        output.with_suffix(ending).write_text(json.dumps(data), encoding="utf-8")
    output.with_suffix(".before-after.png").write_bytes(b"a picture")
