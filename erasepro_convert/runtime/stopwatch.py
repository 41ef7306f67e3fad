"""When something began, and how long it has taken."""

from datetime import UTC, datetime
from time import monotonic


class Stopwatch:
    """Starts when it is made.  ``started`` is the time of day, ISO 8601, in UTC."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._clock = monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it was started, in milliseconds' steps."""
        return round(monotonic() - self._clock, 3)
