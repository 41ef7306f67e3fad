"""The models of ``evaluation.json`` and ``stress.json``: what a release's documents say of them.

``evaluate`` and ``stress`` write them, with more than is read here.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, JsonValue


class Said(BaseModel):
    """A part of a file of ours; what later versions add to it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Interval(Said):
    """Where a figure lies in 95 of 100 samples."""

    low: float
    high: float


class Estimate(Said):
    """A figure, with its interval where it has one."""

    value: float
    interval: Interval | None


class Settings(Said):
    """How pictures were drawn."""

    steps: int
    guidance: float
    size: int
    sampler: str


class Measured(Said):
    """What an evaluation and a stress test both say."""

    tool: str
    original_sha256: str
    erased_sha256: str
    warnings: tuple[str, ...]


class Prompt(Said):
    """A prompt that was drawn, and what it was to show."""

    concept: str
    role: str


class Figure(Said):
    """A metric of both models; ``concept`` is None where it covers all of them."""

    judge: str
    concept: str | None
    column: str
    better: str
    original: Estimate | None
    erased: Estimate
    difference: Estimate | None
    images: int
    prompts: int
    worst: str | None
    worst_value: float | None


class Evaluation(Measured):
    """What ``evaluate`` found."""

    settings: Settings
    seeds: int
    judges: Mapping[str, str]
    missing: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    figures: tuple[Figure, ...]

    @property
    def targets(self) -> frozenset[str]:
        """The targets that figures are about."""
        return frozenset(figure.concept for figure in self.figures if figure.concept)


class Distances(Said):
    """How near text features came to the target's: 0 is there, 1 as far as the anchor."""

    erased: float
    original: float | None
    control: float | None


class DrawnRates(Said):
    """In what share of the pictures ``wanted`` is seen."""

    wanted: str
    original: Estimate | None
    erased: Estimate
    recovered: Estimate | None
    control: Estimate | None
    images: int
    prompts: int


class StressRow(Said):
    """One attack on one concept; "none" is the file without an attack."""

    concept: str
    attack: str
    how: str
    distances: Distances | None
    drawn: DrawnRates | None


class Effort(Said):
    """How hard attacks tried: steps of a training, trials, words of a search."""

    steps: int
    seeds: int
    candidates: int


class Drawing(Said):
    """How attacks were drawn and judged."""

    judge: str
    judge_sha256: str
    settings: Settings
    seeds: int


class Stress(Measured):
    """What ``stress`` found; ``drawing`` is None where it drew nothing."""

    attacks: tuple[str, ...]
    """Those that were made, also where every concept was left out."""
    effort: Effort
    budgets: Mapping[str, Mapping[str, JsonValue]]
    """What each attack that was made could spend, trial seeds among it."""
    drawing: Drawing | None
    rows: tuple[StressRow, ...]

    @property
    def targets(self) -> frozenset[str]:
        """The targets that were attacked."""
        return frozenset(row.concept for row in self.rows)
