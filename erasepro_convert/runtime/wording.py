"""Counts and lists as text for messages."""

from collections.abc import Sequence


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: "1 tensor", "2 tensors".  ``many`` is an irregular plural."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def counted_of(part: int, whole: int, one: str, many: str | None = None) -> str:
    """Return a part of a count with its noun: "26 of 68 matrices"; "68 matrices" for all."""
    return ("" if part == whole else f"{part} of ") + counted(whole, one, many)


def listed(names: Sequence[str], shown: int = 5) -> str:
    """Return the first ``shown`` names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def duration_text(seconds: float) -> str:
    """Return a time in its two largest units: 1 h 20 min, 3 min 5 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
