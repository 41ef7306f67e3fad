"""The recovery of a concept: the rate under attack relative to the original model's rate."""

from math import sqrt

from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.results import Estimate


def recovery_ratio(attacked: Estimate, original: Estimate) -> Estimate | None:
    """Return the ratio of two rates; None where the original's rate may be 0.

    The ratio is above 1 where the attacked model draws the concept more often than the original
    does without an attack.

    The interval is MOVER-R's, from those of both rates: Donner and Zou, *Closed-form confidence
    intervals for functions of the normal mean and standard deviation* (2012).  It needs no
    resampling, so that it works where a rate is 0 or 1, which is common here.  It takes the rates
    for independent: where some prompts are hard for both models, it is too wide.
    """
    if original.interval is None or attacked.interval is None or original.interval.low <= 0:
        return None
    p, q = attacked.value, original.value
    p_ends, q_ends = attacked.interval, original.interval
    low, high = _end(p, p_ends.low, q, q_ends.high, -1), _end(p, p_ends.high, q, q_ends.low, 1)
    return Estimate(p / q, Interval(low, high))


def _end(p: float, p_end: float, q: float, q_end: float, side: int) -> float:
    """Return one end of the ratio's interval, from those ends of both rates that give it."""
    divisor, spread = q_end * (2 * q - q_end), p_end * (2 * p - p_end)
    if divisor == 0:  # the lower end, in the limit
        return spread / (2 * p * q) if p else 0.0
    root = sqrt(max(0.0, (p * q) ** 2 - spread * divisor))
    return max(0.0, (p * q + side * root) / divisor)
