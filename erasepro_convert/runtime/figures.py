"""Figures as text: estimates with their intervals, and times."""

from typing import Protocol


class _Interval(Protocol):
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class _Estimate(Protocol):
    """A figure with its interval, None where it has none; several rooms have classes of them."""

    @property
    def value(self) -> float: ...
    @property
    def interval(self) -> _Interval | None: ...


def format_estimate(
    estimate: _Estimate | None, places: int, ends: str = "", value: str = "{}"
) -> str:
    """Format an estimate to ``places`` decimals; a dash stands for None, and no zero is negative.

    ``value`` is what stands around the value, ``ends`` what follows it where there is an interval,
    such as " ({} to {})"; empty leaves it out.
    """
    if estimate is None:
        return "–"
    text, interval = value.format(f"{estimate.value:z.{places}f}"), estimate.interval
    if interval is None:
        return text
    return text + ends.format(f"{interval.low:z.{places}f}", f"{interval.high:z.{places}f}")


def format_duration(seconds: float) -> str:
    """Format a time in its two largest units: 1 h 20 min, 3 min 5 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
