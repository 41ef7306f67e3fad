"""How long a conversion still takes, from how far its stages have come."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

ORDER = ("vocabulary", "language", "train", "erase", "probe", "lora")
"""The stages of an erasure, which follow one another; reading and writing go on beside them."""
FULL_SIZE = 2.1e9
"""Bytes of the file that ``expected_seconds`` are for."""


def expected_seconds(concepts: int, *, is_trained: bool) -> dict[str, float]:
    """Return what each stage takes on a full-size file in fp16, roughly: see docs/speed.md.

    A stage can take no time at all where the cache has its result.
    """
    erase = {"erase": 5 + 0.6 * concepts, "probe": 2.0}
    return {"train": 600.0, **erase} if is_trained else {"language": 39.0, **erase}


@dataclass
class _Stage:
    """When a stage began, and how far it had come at its last report, in seconds."""

    began: float
    reported: float
    share: float = 0.0

    def left(self, now: float) -> float:
        """Return the seconds left at the pace so far; it goes down between reports, too."""
        return (self.reported - self.began) * (1 - self.share) / self.share - (now - self.reported)


class TimeLeft:
    """Estimates the seconds until all stages are done.

    A stage that has reported progress goes on at its own pace.  One that has not takes what is
    ``expected`` of it, by the size of the file and the pace of the stages before.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = expected
        self._stages: dict[str, _Stage] = {}
        self._bytes = 0
        self.began = monotonic()

    def report(self, stage: str, done: int, total: int) -> None:
        """Take note of how far a stage has come."""
        now = monotonic()
        if not done or stage not in self._stages:  # a stage can run again, for an EMA copy
            self._stages[stage] = _Stage(now, now)
        known = self._stages[stage]
        known.reported, known.share = now, min(1.0, done / total) if total else 0.0
        if stage == "write":
            self._bytes = total

    def left(self) -> float | None:
        """Return the seconds left, at least 0; None while nothing tells."""
        now, pace = monotonic(), self._pace()
        latest = max((n for n, name in enumerate(ORDER) if name in self._stages), default=None)
        if (latest is None and self._expected) or not pace:
            return None
        to_come = sum(self._left_of(name, now, pace) for name in ORDER[latest or 0 :])
        beside = [self._left_of(name, now, pace) for name in self._stages if name not in ORDER]
        return max([to_come, *beside])

    def _left_of(self, name: str, now: float, pace: float) -> float:
        stage = self._stages.get(name)
        if stage and stage.share:
            return max(0.0, stage.left(now))
        spent = now - stage.began if stage else 0.0
        return max(0.0, self._expected.get(name, 0.0) * pace - spent)

    def _pace(self) -> float:
        """Return the seconds that an expected one takes: by experience, else by the file's size."""
        known = [(n, s) for n, s in self._stages.items() if s.share and self._expected.get(n)]
        if not known:
            return self._bytes / FULL_SIZE if self._expected else 1.0
        expected = sum(self._expected[name] * stage.share for name, stage in known)
        return sum(stage.reported - stage.began for _, stage in known) / expected
