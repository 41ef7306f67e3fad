"""Our technique for eval-unlearn: as its runners use it, and in one where it is installed."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erasepro_convert import demo
from erasepro_convert.errors import CheckpointError
from erasepro_convert.evaluate.eval_unlearn import ErasePro

pytestmark = pytest.mark.slow

PROMPTS = ["a dog", "a red car in the snow", "snoopy"]


def technique(**config: Any) -> Any:
    """As a runner makes it."""
    with demo.checkpoint() as checkpoint:
        return ErasePro(checkpoint=str(checkpoint), steps=3, **config)


def test_its_entry_point_leads_to_it() -> None:
    (found,) = entry_points(group="eval_unlearn.techniques", name="erasepro")
    assert found.load() is ErasePro


def test_batches_are_numbered_through() -> None:
    """Neither the size of batches nor another run changes a picture by more than rounding."""
    whole = technique().generate(prompts=PROMPTS, seed=None)
    assert [picture.size for picture in whole] == [(64, 64)] * 3
    parts = technique()
    made = [*parts.generate(prompts=PROMPTS[:2]), *parts.generate(prompts=PROMPTS[2:])]
    for one, other in zip(whole, made, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    assert parts.generate(prompts=[]) == []


def test_seeds_count() -> None:
    (first,) = technique(erase_concept="snoopy").generate(prompts=PROMPTS[:1])
    (other,) = technique(seed=5).generate(prompts=PROMPTS[:1])
    (given,) = technique().generate(prompts=PROMPTS[:1], seed=5)
    assert np.abs(np.asarray(first, int) - np.asarray(other, int)).max() > 20
    assert np.asarray(given).tolist() == np.asarray(other).tolist()


def test_a_file_that_makes_no_pictures_is_refused(checkpoint_file: Path) -> None:
    with pytest.raises(CheckpointError):
        ErasePro(checkpoint=str(checkpoint_file))


def test_in_a_runner_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("eval_unlearn", reason="the extra eval-unlearn is not installed")
    from eval_unlearn.registry import register_metric
    from eval_unlearn.runners import SingleBenchmarkRunner
    from eval_unlearn.types import Dataset, MetricResult

    class Count:
        """Of pictures; judges of its own want downloads."""

        def __init__(self, **_: Any) -> None:
            self.pictures = 0

        def load_dataset(self) -> list[Any]:
            """Two batches."""
            return [Dataset(prompts=part, metadata={}) for part in (PROMPTS[:2], PROMPTS[2:])]

        def update(self, images: list[Any], prompts: list[str], metadata: Any = None) -> None:
            """Of one batch."""
            self.pictures += len(images)

        def compute(self) -> Any:
            """How many there were."""
            return MetricResult(name="count", value=float(self.pictures), details={})

    register_metric("count")(Count)
    with demo.checkpoint() as checkpoint:
        report = SingleBenchmarkRunner(
            technique_name="erasepro",
            metric_name="count",
            technique_config={
                "checkpoint": str(checkpoint),
                "erase_concept": "Snoopy",
                "steps": 3,
            },
            output_dir=str(tmp_path),
        ).run()
    assert report["metric_result"]["value"] == 3
    assert report["erase_concept"] == "snoopy"
    assert len(list(tmp_path.rglob("*.png"))) == 3
