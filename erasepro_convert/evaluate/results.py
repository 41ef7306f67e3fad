"""The metrics that judges compute for both models, with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from erasepro_convert.evaluate.image_store import ModelName, Pictures
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.plan import Role

Better = Literal["higher", "lower"]
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓"}

Scores = Mapping[str, Sequence[float]]
"""For each prompt, one number for each of its pictures."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of a metric, with its 95 % interval over samples of prompts and seeds."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Metric:
    """One metric of both models: a line of the table.

    ``concept`` is None where the metric covers all concepts.  ``difference`` is erased − original
    over the same prompts and seeds.  ``worst`` is the erased model's worst prompt.
    """

    judge: str
    concept: str | None
    column: str
    better: Better
    original: Estimate | None
    erased: Estimate
    difference: Estimate | None
    images: int
    prompts: int
    worst: str | None = None
    worst_value: float | None = None
    scores: Mapping[ModelName, Scores] | None = field(default=None, repr=False)
    """The numbers that were averaged, so that methods can be compared picture by picture.

    Distances between sets have no number for a single picture.
    """

    def to_data(self) -> dict[str, object]:
        """Return all fields but the scores, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}


class PictureSets(Protocol):
    """Gives the pictures of an evaluation by model, concept and role."""

    def __call__(self, model: ModelName, concept: str | None, role: Role) -> Pictures | None:
        """Return a model's pictures of one concept and role; None where there are none.

        Where ``concept`` is None, prompts of all concepts count.
        """

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each target with its anchor."""


class Judge(Protocol):
    """Computes metrics from the pictures of both models."""

    name: str
    digest: str
    """The SHA-256 of the judge's weights."""

    def metrics(self, sets: PictureSets) -> list[Metric]:
        """Compute the judge's metrics."""
